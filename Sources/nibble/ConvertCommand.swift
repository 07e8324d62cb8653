internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleTensors

/// `nibble convert`: a 4-bit transformer in another form.
struct ConvertCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert",
        abstract: "Write a 4-bit transformer in another form.",
        usage: "nibble convert <input> --to <form> --output <path> [options]",
        discussion: """
            Reads a 4-bit transformer of any of these forms: Nunchaku's INT4 single file or its older folder with \
            transformer_blocks.safetensors, a folder of Nunchaku Lite, a nibble file. Works layer by layer, so that \
            memory is small whatever the model's size, and looks at every number on the way.
            """)

    enum Form: String, ExpressibleByArgument, CaseIterable {
        case nibble
        case nunchaku
        case nunchakuLite = "nunchaku-lite"
        case dequantized
    }

    @Argument(
        help: "The transformer: a .safetensors file, a folder, or a name of the Hugging Face Hub.", completion: .file())
    var input: String

    @Option(
        help: ArgumentHelp(
            "nibble: one file in the order of this program's kernels, which opens at once and is read block by block where "
                + "memory is short. nunchaku: the single file that Nunchaku reads. nunchaku-lite: a folder that diffusers itself reads and runs "
                + "with Nunchaku's kernels. dequantized: an ordinary model in bf16 under diffusers' "
                + "names, which computes as the 4-bit model does with activations that are not quantized.",
            valueName: "form"))
    var to: Form

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Where it goes. nibble, nunchaku: a .safetensors file. nunchaku-lite: a folder. dequantized: either; a folder gets "
                + "config.json too.",
            valueName: "path"), completion: .file())
    var output: String

    @Option(help: "Threads. Default: one for each core.")
    var threads: Int?

    @Flag(name: .shortAndLong, help: "Nothing on standard error but errors.")
    var quiet = false

    func validate() throws {
        if let threads, threads < 1 { throw ValidationError("--threads: found \(threads); expected at least 1") }
        if to == .nunchakuLite, output.hasSuffix(".safetensors") {
            throw ValidationError("--output: found '\(output)'; expected a folder")
        }
        if [.nibble, .nunchaku].contains(to), !output.hasSuffix(".safetensors") {
            throw ValidationError("--output: found '\(output)'; expected a name that ends in .safetensors")
        }
    }

    func run() async throws {
        let checkpoint = try Checkpoint.openInt4(try await ModelFetcher(isQuiet: quiet).transformer(input))
        let pool = ThreadPool(threadCount: threads)
        var line = ProgressLine(isQuiet: quiet)
        defer { line.clear() }
        let start = ContinuousClock.now
        func report(_ done: Int, _ total: Int) throws {
            try Task.checkCancellation()
            let fraction = total == 0 ? 1 : Double(done) / Double(total)
            let elapsed = (ContinuousClock.now - start) / .seconds(1)
            let left = done == 0 ? "" : ", \(spoken(seconds: elapsed * (1 - fraction) / fraction)) left"
            line.show(fraction, "\(ByteCount(done)) of \(ByteCount(total))\(left)", isMilestone: true)
        }
        switch to {
        case .nibble: try checkpoint.writeNibble(to: output, on: pool, progress: report)
        case .nunchaku: try checkpoint.writeNunchaku(to: output, on: pool, progress: report)
        case .nunchakuLite: try checkpoint.writeLite(to: output, on: pool, progress: report)
        case .dequantized:
            try DequantizedFluxCheckpoint(checkpoint, on: pool).write(to: output, progress: report)
        }
    }
}
