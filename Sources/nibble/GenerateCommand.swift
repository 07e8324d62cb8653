internal import ArgumentParser
internal import Foundation
internal import NibbleImages
internal import NibblePipelines
internal import NibbleTensors

/// `nibble generate`: a prompt in, pictures out.
struct GenerateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate",
        abstract: "Draw pictures from a prompt.",
        discussion: """
            The PNG carries everything that it was made from: '--like picture.png' makes it again, and options beside it \
            change a part. The same command gives the same bytes, whatever the number of threads.
            """)

    @Argument(help: "What the picture shows.")
    var prompt: String?

    @OptionGroup(title: "Picture") var picture: PictureOptions
    @OptionGroup(title: "Model and machine") var model: ModelOptions
    @OptionGroup(title: "Output") var output: OutputOptions
    @OptionGroup var report: ReportOptions

    struct PictureOptions: ParsableArguments {
        @Option(name: .customLong("prompt-2"), help: "Another prompt for the second text encoder, T5.")
        var prompt2: String?

        @Option(help: "Where the noise comes from. Default: a random number, which is printed.")
        var seed: UInt64?

        @Option(help: "Steps. Default: 28, or 4 for models without guidance, such as FLUX.1-schnell.")
        var steps: Int?

        @Option(help: "How closely to follow the prompt. Default: 3.5; without effect on models without guidance.")
        var guidance: Float?

        @Option(help: "Pixels, a multiple of 16. Default: what the model was made for.")
        var width: Int?

        @Option(help: "Pixels, a multiple of 16. Default: what the model was made for.")
        var height: Int?

        @Option(help: "Tokens of the second text encoder. Default: what the model was made for, at most 512.")
        var maxSequenceLength: Int?

        @Option(help: "How many pictures, with this seed and those after it.")
        var count: Int = 1

        @Option(help: ArgumentHelp("Make a picture of Nibble or A1111 again.", valueName: "png"))
        var like: String?

        @Flag(
            help:
                "Round timestep, guidance and noise as a bf16 run of diffusers does, to compare with a GPU's pictures.")
        var roundConditioning = false
    }

    struct OutputOptions: ParsableArguments {
        @Option(
            name: .shortAndLong,
            help: ArgumentHelp(
                "Where the picture goes; several pictures get -1, -2, … Default: nibble-SEED.png.", valueName: "png"))
        var output: String?
    }

    func run() async throws {
        let recorded = try picture.like.map { path in
            try RecordedRequest(
                texts: Dictionary(
                    PNG.read(path).texts.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first }))
        }
        let request = try request(like: recorded)
        let outputs = try OutputPaths(output.output ?? "nibble-\(request.seed).png", count: request.count)
        let began = ContinuousClock.now
        let pipeline = try await model.open(like: recorded?.record, isQuiet: report.quiet || report.json)
        var reporter = GenerationReporter(isQuiet: report.quiet || report.json, outputs: outputs)
        for try await event in pipeline(request) { try reporter.handle(event) }
        try Task.checkCancellation()
        try reporter.finish(recorded?.record, seconds: began.duration(to: .now) / .seconds(1), json: report.json)
    }

    private func request(like recorded: RecordedRequest?) throws -> FluxRequest {
        guard let prompt = prompt ?? recorded?.prompt else {
            throw ValidationError("Say what the picture shows, as in: nibble generate \"red apple\"")
        }
        return FluxRequest(
            prompt: prompt, prompt2: picture.prompt2 ?? recorded?.prompt2, steps: picture.steps ?? recorded?.steps,
            guidanceScale: picture.guidance ?? recorded?.guidance, width: picture.width ?? recorded?.width,
            height: picture.height ?? recorded?.height,
            // Random seeds stay below 2^32, so that they can be typed.
            seed: picture.seed ?? recorded?.seed ?? UInt64(UInt32.random(in: 0...UInt32.max)), count: picture.count,
            maxSequenceLength: picture.maxSequenceLength ?? recorded?.record?.maxSequenceLength,
            roundsConditioning: picture.roundConditioning || recorded?.record?.roundsConditioning ?? false)
    }
}

/// The files of a request's pictures.
struct OutputPaths {
    let paths: [String]

    /// Checks that the folder can be written to, before minutes are spent.
    init(_ path: String, count: Int) throws {
        let file = URL(filePath: path)
        let folder = file.deletingLastPathComponent().path
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
            throw InputError(path, "there is no folder \(folder)")
        }
        if FileManager.default.fileExists(atPath: file.path, isDirectory: &isFolder), isFolder.boolValue {
            throw InputError(path, "is a folder; name a file, as in --output \(path)/picture.png")
        }
        guard FileManager.default.isWritableFile(atPath: folder) else {
            throw InputError(path, "the folder \(folder) cannot be written to")
        }
        let ending = file.pathExtension.isEmpty ? "" : "." + file.pathExtension
        let stem = ending.isEmpty ? path : String(path.dropLast(ending.count))
        // A request of too many pictures is refused by the pipeline, in its own words.
        paths = count == 1 ? [path] : (0..<max(count, 0)).prefix(10_000).map { "\(stem)-\($0 + 1)\(ending)" }
    }
}
