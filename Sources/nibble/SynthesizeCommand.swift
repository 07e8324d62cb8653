public import ArgumentParser
internal import Foundation
public import NibblePipelines
internal import NibbleTensors

extension SyntheticModel.Format: ExpressibleByArgument {}

/// `nibble synthesize`: a model of random weights from its configurations.
struct SynthesizeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "synthesize",
        abstract: "Make a model of random weights, to try what this machine will do with the real one.",
        usage: "nibble synthesize <configurations> --output <folder> [options]",
        discussion: """
            The result has the names, shapes and types of the real model, so that 'nibble generate', 'nibble bench' and \
            'nibble inspect' take as long and as much memory as with it; its pictures are noise. It takes the real model's \
            disk space, too: of FLUX.1-dev 34 GB in bf16, 10 GB in 4 bits. What is written does not depend on the number \
            of threads.
            """)

    @Argument(
        help: ArgumentHelp(
            "A FLUX.1 model's folder, of which only the configurations are read; or a name of the Hugging Face Hub, of which "
                + "only they and the tokenizers are fetched; or a folder with a transformer's config.json alone.",
            valueName: "configurations"), completion: .directory)
    var configurations: String

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Folder that the model is written into: a new one, an empty one, or one that this command wrote before, which is "
                + "replaced.", valueName: "folder"), completion: .directory)
    var output: String

    @Option(
        help: ArgumentHelp(
            "bf16: 16-bit weights under diffusers' names. nunchaku: a 4-bit transformer in Nunchaku's form. nibble: one in the "
                + "order of this program's kernels, which opens at once. T5 is in 4 bits in both of the latter. "
                + "Default: nibble.", valueName: "format"))
    var format = SyntheticModel.Format.nibble

    @Option(help: "Other numbers for another seed.")
    var seed: UInt64 = 0

    @Option(help: "Threads. Default: one for each core.")
    var threads: Int?

    @Flag(name: .shortAndLong, help: "Nothing on standard error but errors.")
    var quiet = false

    func validate() throws {
        if let threads, threads < 1 { throw ValidationError("--threads: found \(threads); expected at least 1") }
    }

    func run() async throws {
        let source = try await ModelFetcher(isQuiet: quiet).modelFolder(
            configurations, withoutWeightsOf: ["transformer", "text_encoder", "text_encoder_2", "vae"])
        let model = try SyntheticModel(
            configurations: source, format: format, seed: seed, tokenizersOf: EmbeddedModel.path)
        var line = ProgressLine(isQuiet: quiet)
        defer { line.clear() }
        if let tokenizers = model.tokenizers, tokenizers != source {
            line.say(
                "\(source) has no tokenizers: those of \(tokenizers) stand in for them. Prompts of 512 tokens take as long."
            )
        }
        let start = ContinuousClock.now
        try model.write(to: output, on: ThreadPool(threadCount: threads)) { done, total in
            try Task.checkCancellation()
            let fraction = total == 0 ? 1 : Double(done) / Double(total)
            let elapsed = (ContinuousClock.now - start) / .seconds(1)
            let left = done == 0 ? "" : ", \(spoken(seconds: elapsed * (1 - fraction) / fraction)) left"
            line.show(fraction, "\(ByteCount(done)) of \(ByteCount(total))\(left)", isMilestone: true)
        }
    }
}
