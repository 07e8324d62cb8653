internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibblePipelines
internal import NibbleTensors

/// `nibble decode`: latents that a run left behind become the picture.
struct DecodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decode",
        abstract: "Finish a picture whose decoding was interrupted.",
        usage: "nibble decode <latents> --output <png> [options]",
        discussion: """
            Before a picture of more than half a minute is decoded, 'generate' puts its latents beside it, as \
            PICTURE.png.latents.safetensors, and takes them away when the picture is safe. They know which model they \
            belong to.
            """)

    @Argument(help: "The latents, a safetensors file.", completion: .file(extensions: ["safetensors"]))
    var latents: String

    @OptionGroup(title: "Model and machine") var model: ModelOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    struct OutputOptions: ParsableArguments {
        @Option(
            name: .shortAndLong,
            help: ArgumentHelp("Where the picture goes, replacing what is there.", valueName: "png"),
            completion: .file(extensions: ["png"]))
        var output: String

        @OptionGroup var report: ReportOptions
    }

    func validate() throws { try PictureFormat.check(output.output) }

    func run() async throws {
        let began = ContinuousClock.now
        let denoised = try denoisedLatents()
        let outputs = try OutputPaths(output.output, count: 1)
        var reporter = GenerationReporter(isQuiet: output.report.quiet, outputs: outputs)
        do {
            try reporter.handle(.stage(.decoding))
            let picture = try await model.completed(by: denoised.record).open(isQuiet: output.report.quiet)
                .decode(denoised)
            try reporter.handle(.picture(picture))
        } catch {
            reporter.abandon()
            if case PipelineError.invalidRequest("latents", let found, let expected) = error {
                throw InputError(latents, "tensor '\(KeptLatents.tensorName)': found \(found); expected \(expected)")
            }
            throw error
        }
        try reporter.finish(
            denoised.record, seconds: began.duration(to: .now) / .seconds(1),
            memoryLimit: model.machine.memoryLimit(), json: output.report.json)
    }

    private func denoisedLatents() throws -> DenoisedLatents {
        let file = try SafetensorsFile(latents)
        guard let json = file.metadata[GenerationRecord.textKey] else {
            throw InputError(
                latents, "has no '\(GenerationRecord.textKey)' metadata; it is not latents of 'nibble generate'")
        }
        let stored = try file.tensor(KeptLatents.tensorName)
        guard stored.dtype == .float32 else {
            throw CheckpointError.wrongType(
                path: latents, name: KeptLatents.tensorName, found: stored.dtype.rawValue, expected: "F32")
        }
        let record: GenerationRecord
        do {
            record = try GenerationRecord(json: json)
        } catch {
            throw InputError(latents, "\(error)")
        }
        return DenoisedLatents(latents: Tensor(stored.floats(), shape: stored.shape), record: record)
    }
}
