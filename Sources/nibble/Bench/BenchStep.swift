internal import ArgumentParser
internal import Foundation
internal import NibbleModels
internal import NibbleTensors

/// `nibble bench step`: one prediction of the transformer, from random weights or from a file, on given inputs.
struct BenchStep: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "step",
        abstract: "One step of the transformer.",
        usage: """
            nibble bench step [options]
            nibble bench step --transformer <path> [--inputs <folder>] [options]
            """,
        discussion: """
            With random weights of a configuration (default: FLUX.1-dev's width, 2 double and 4 single blocks), or those \
            of '--transformer PATH'. Beside 4-bit weights the limit is that of bytes, although attention and what is not \
            quantized compute in bf16. '--inputs FOLDER' takes inputs from that folder: raw little-endian f32 files \
            hidden_states [tokens, 64], encoder_hidden_states [text, 4096], pooled_projections [768], timestep (0…1), \
            guidance, img_ids and txt_ids [tokens, 3], all named *.f32.
            """)

    @OptionGroup(title: "Random weights") var random: RandomModelOptions
    @OptionGroup(title: "A model on given inputs") var given: GivenModelOptions
    @OptionGroup(title: "Numbers") var numbers: NumberOptions
    @Option(help: ArgumentHelp("Where to write the prediction, raw f32.", valueName: "file"), completion: .file())
    var output: String?
    @OptionGroup(title: "Measurement") var options: BenchOptions

    func run() async throws {
        if let output { try OutputFile.check(output, example: "prediction.f32") }
        let model = try await StepModel(
            random, given, numbers, isQuiet: options.json, on: ThreadPool(threadCount: options.threads))
        let compute = model.compute
        let prediction = Tensor(zeros: [model.inputs.latents.rows, model.transformer.config.outChannels], .float32)
        let report = try BenchReport(
            model.description, macs: model.multiplyAdds, on: compute, options, operand: model.operand
        ) {
            try model.transformer(model.inputs, into: prediction, residency: given.residency, on: compute) { _ in
                try Task.checkCancellation()
            }
        }
        if let output { try OutputFile.write(Data(prediction.bytes), to: output) }
        try report.print(json: options.json)
    }
}
