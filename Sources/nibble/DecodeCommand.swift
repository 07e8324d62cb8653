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
        discussion: """
            Before a picture of more than half a minute is decoded, 'generate' puts its latents beside it, as \
            PICTURE.png.latents.safetensors, and takes them away when the picture is safe.
            """)

    @Argument(help: ArgumentHelp("The latents.", valueName: "safetensors"))
    var latents: String

    @OptionGroup(title: "Model and machine") var model: ModelOptions

    @Option(name: .shortAndLong, help: ArgumentHelp("Where the picture goes.", valueName: "png"))
    var output: String

    func run() async throws {
        let file = try SafetensorsFile(latents)
        guard let json = file.metadata[GenerationRecord.textKey] else {
            throw InputError(
                latents, "has no '\(GenerationRecord.textKey)' metadata; it is not latents of 'nibble generate'")
        }
        let record = try GenerationRecord(json: json)
        _ = try OutputPaths(output, count: 1)
        let stored = try file.tensor(KeptLatents.tensorName)
        let denoised = DenoisedLatents(latents: Tensor(stored.floats(), shape: stored.shape), record: record)
        try await model.open(like: record).decode(denoised).write(to: output)
    }
}
