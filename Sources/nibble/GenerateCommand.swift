internal import ArgumentParser
internal import Foundation
internal import NibbleImages
internal import NibbleModels
internal import NibblePipelines
internal import NibbleTensors

/// `nibble generate`: a prompt in, pictures out.
struct GenerateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate",
        abstract: "Draw pictures from a prompt.",
        usage: """
            nibble generate <prompt> [options]
            nibble generate --like <png> [options]
            """,
        discussion: """
            The PNG carries everything that it was made from: '--like picture.png' makes it again, and options beside it \
            change a part. The same command gives the same bytes, whatever the number of threads.
            """)

    @Argument(help: "What the picture shows.")
    var prompt: String?

    @OptionGroup(title: "Picture") var picture: PictureOptions
    @OptionGroup(title: "Model and machine") var model: ModelOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    struct PictureOptions: ParsableArguments {
        @Option(name: .customLong("prompt-2"), help: "Another prompt for the second text encoder, T5.")
        var prompt2: String?

        @Option(help: "Where the noise comes from. Default: a random number, which the picture's name tells.")
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

        @Option(
            help: ArgumentHelp(
                "Skip blocks in steps whose first block does nearly what it did before: faster, and another picture. 0.12 is "
                    + "usual; two numbers, such as 0.09,0.12, are for double and single blocks apart; off: run them all.",
                valueName: "change"))
        var firstBlockCache: FirstBlockChange?

        @Option(help: "How many pictures, with this seed and those after it.")
        var count: Int = 1

        @Option(
            help: ArgumentHelp(
                "Make this picture of Nibble or A1111 again; options beside it change a part.", valueName: "png"),
            completion: .file(extensions: ["png"]))
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
                "Where the picture goes, replacing what is there; several pictures get -1, -2, … before the ending. "
                    + "Default: nibble-SEED.png.", valueName: "png"), completion: .file(extensions: ["png"]))
        var output: String?

        @OptionGroup var report: ReportOptions
    }

    func validate() throws {
        guard prompt != nil || picture.like != nil else {
            throw ValidationError("Say what the picture shows, as in: nibble generate \"red apple\"")
        }
        try output.output.map(PictureFormat.check)
    }

    func run() async throws {
        let recorded = try picture.like.map(recordedRequest)
        let request = request(like: recorded)
        let outputs = try OutputPaths(output.output ?? "nibble-\(request.seed).png", count: request.count)
        let began = ContinuousClock.now
        var reporter = GenerationReporter(isQuiet: output.report.quiet, outputs: outputs)
        do {
            let pipeline = try await model.completed(by: recorded?.record).open(isQuiet: output.report.quiet)
            for try await event in pipeline(request) { try reporter.handle(event) }
            try Task.checkCancellation()
        } catch {
            reporter.abandon()
            throw error
        }
        try reporter.finish(
            recorded?.record, seconds: began.duration(to: .now) / .seconds(1),
            memoryLimit: model.machine.memoryLimit(), json: output.report.json)
    }

    /// What a picture's texts say.
    private func recordedRequest(_ path: String) throws -> RecordedRequest {
        let texts = try PNG.read(path).texts.map { ($0.key, $0.value) }
        do {
            return try RecordedRequest(texts: Dictionary(texts, uniquingKeysWith: { first, _ in first }))
        } catch {
            throw InputError(path, "\(error)")
        }
    }

    private func request(like recorded: RecordedRequest?) -> FluxRequest {
        FluxRequest(
            prompt: prompt ?? recorded?.prompt ?? "", prompt2: picture.prompt2 ?? recorded?.prompt2,
            steps: picture.steps ?? recorded?.steps, guidanceScale: picture.guidance ?? recorded?.guidance,
            width: picture.width ?? recorded?.width, height: picture.height ?? recorded?.height,
            // Random seeds stay below 2^32, so that they can be typed.
            seed: picture.seed ?? recorded?.seed ?? UInt64(UInt32.random(in: 0...UInt32.max)), count: picture.count,
            maxSequenceLength: picture.maxSequenceLength ?? recorded?.record?.maxSequenceLength,
            roundsConditioning: picture.roundConditioning || recorded?.record?.roundsConditioning ?? false,
            firstBlockCache: picture.firstBlockCache.map(\.threshold)
                ?? recorded?.record?.firstBlockCache.flatMap(FirstBlockCache.Threshold.init))
    }
}

/// How much a first block may change, as one types it.
struct FirstBlockChange: ExpressibleByArgument {
    /// Nil: off.
    let threshold: FirstBlockCache.Threshold?

    init?(argument: String) {
        guard argument != "off" else {
            threshold = nil
            return
        }
        let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Float($0) }
        guard !values.contains(nil), let threshold = FirstBlockCache.Threshold(values: values.compactMap(\.self)) else {
            return nil
        }
        self.threshold = threshold
    }
}

/// The only format that pictures are written in.
enum PictureFormat {
    /// Endings that promise another one.
    private static let others: Set<String> = [
        "avif", "bmp", "gif", "heic", "heif", "jpeg", "jpg", "jxl", "ppm", "tif", "tiff", "webp",
    ]

    /// Refuses a file name that promises another format.
    static func check(_ path: String) throws {
        let ending = URL(filePath: path).pathExtension.lowercased()
        guard !others.contains(ending) else {
            throw ValidationError(
                "--output: found \(path); expected a name that ends in .png, as the picture will be PNG")
        }
    }
}

/// The files of a request's pictures.
struct OutputPaths {
    let paths: [String]

    init(_ path: String, count: Int) throws {
        try OutputFile.check(path, example: "picture.png")
        let file = URL(filePath: path)
        let ending = file.pathExtension.isEmpty ? "" : "." + file.pathExtension
        let stem = ending.isEmpty ? path : String(path.dropLast(ending.count))
        // A request of too many pictures is refused by the pipeline, in its own words.
        paths = count == 1 ? [path] : (0..<max(count, 0)).prefix(10_000).map { "\(stem)-\($0 + 1)\(ending)" }
    }
}
