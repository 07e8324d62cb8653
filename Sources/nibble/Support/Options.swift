public import ArgumentParser
internal import Foundation
public import NibbleCheckpoints
internal import NibbleHub
internal import NibblePipelines
public import NibbleTensors

extension Precision: ExpressibleByArgument {}
extension ActivationBits: ExpressibleByArgument {}
extension Accumulation: ExpressibleByArgument {}
extension AttentionPrecision: ExpressibleByArgument {}
extension Int4Form: ExpressibleByArgument {}

/// Which model runs, and how.
struct ModelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A FLUX.1 model: a folder in diffusers' layout, or a name of the Hugging Face Hub (OWNER/NAME[@REVISION]). "
                + "Default: the model that comes with Nibble, which draws emoji.",
            valueName: "folder or name"), completion: .directory)
    var model: String?

    @Option(
        help: ArgumentHelp(
            "Another transformer for that model: a folder, a safetensors file with diffusers' or BFL's names, a 4-bit one "
                + "(Nunchaku's svdq-int4…, Nunchaku Lite, nibble), or a name of the Hub (OWNER/NAME[/FILE][@REVISION]).",
            valueName: "path or name"), completion: .file())
    var transformer: String?

    @Option(
        name: .customLong("text-encoder-2"),
        help: ArgumentHelp(
            "Another T5 for that model: one in 4 bits ('nibble quantize --component text_encoder_2'), a folder or "
                + "safetensors file with transformers' names, or a name of the Hub.", valueName: "path or name"),
        completion: .file())
    var textEncoder2: String?

    @Option(help: "Numbers to compute in: bf16 is faster, f32 is the reference. Default: bf16.")
    var precision: Precision?

    @Option(
        help: ArgumentHelp(
            "What the inputs of a 4-bit transformer's layers are quantized to: int4 is what its file was made for, int8 "
                + "is nearer to 16 bits, as fast or (AMD with AVX-512) an eighth slower. Default: int4."))
    var activations: ActivationBits?

    @Option(
        help: ArgumentHelp(
            "What a 4-bit transformer's products are summed in: nunchaku is bfloat16 as in that engine's kernels, to "
                + "compare with a GPU's pictures; slow, and for int4 activations only. Default: f32."))
    var accumulation: Accumulation?

    @Option(
        help: ArgumentHelp(
            "What the transformer's attention multiplies: int8 is twice as fast and off by about 1 %, less than 4-bit "
                + "layers are; needs VNNI (AVX-512 or AVX) or Arm's dot products, and precision bf16. Default: int8 for a "
                + "4-bit transformer where it can be had, else bf16; in precision f32 always f32."))
    var attention: AttentionPrecision?

    @OptionGroup var machine: MachineOptions

    /// These options and, where they say nothing, what a picture says that it was made with.
    func completed(by record: GenerationRecord?) throws -> ModelOptions {
        guard let record else { return self }
        var completed = self
        completed.precision = precision ?? record.precision
        if model == nil {
            completed.model = try Self.located(record.model)
            // A transformer or a text encoder belongs to its model: with another one it says nothing.
            completed.transformer =
                try transformer ?? record.transformer.map { try Self.existing($0, option: "transformer") }
            completed.textEncoder2 =
                try textEncoder2 ?? record.textEncoder2.map { try Self.existing($0, option: "text-encoder-2") }
            completed.activations = activations ?? record.activations
            completed.accumulation = accumulation ?? record.accumulation
            // Another precision than the record's may have no attention in bytes.
            completed.attention = attention ?? (completed.precision == record.precision ? record.attention : nil)
        }
        return completed
    }

    /// The folder of a recorded model. The embedded one is found even where the record's path to it leads nowhere, since
    /// that depends on the folder that one works in.
    private static func located(_ recorded: String) throws -> String {
        if FileManager.default.fileExists(atPath: recorded) { return recorded }
        func name(_ path: String) -> String { URL(filePath: path).lastPathComponent }
        if name(recorded) == name(EmbeddedModel.path) { return EmbeddedModel.path }
        throw InputError(recorded, "the picture was made with this model, which is not there; name it with --model")
    }

    /// A recorded part: a path and never a name, so that nothing is fetched because a picture says so.
    private static func existing(_ recorded: String, option: String) throws -> String {
        guard FileManager.default.fileExists(atPath: recorded) else {
            let part = option == "transformer" ? option : "text encoder"
            throw InputError(
                recorded, "the picture was made with this \(part), which is not there; name it with --\(option)")
        }
        return recorded
    }

    /// A pipeline as the options say; models that are named are fetched where they are not there yet.
    ///
    /// - Parameter isQuiet: no progress while a model is fetched.
    /// - Returns: the pipeline, with its model open.
    /// - Throws: what is wrong with the options or the model.
    func open(isQuiet: Bool) async throws -> FluxPipeline {
        let (folder, options) = try await located(isQuiet: isQuiet)
        return try FluxPipeline(model: folder, options: options)
    }

    /// What a pipeline is opened with, after models that are named were fetched where they were not there yet.
    ///
    /// - Parameter isQuiet: no progress while a model is fetched.
    /// - Returns: the model's folder, and how the pipeline is to work.
    /// - Throws: what is wrong with the options, or keeps a model from being fetched.
    func located(isQuiet: Bool) async throws -> (model: String, options: FluxPipeline.Options) {
        var options = FluxPipeline.Options()
        options.precision = precision ?? .bf16
        options.threads = machine.threads
        options.memoryLimit = try machine.memoryLimit()
        options.activations = activations ?? .int4
        options.accumulation = accumulation ?? .f32
        options.attention = attention
        let fetcher = ModelFetcher(isQuiet: isQuiet)
        if let transformer { options.transformer = try await fetcher.transformer(transformer) }
        if let textEncoder2 {
            options.textEncoder2 = try await fetcher.path(of: textEncoder2) { NeededFiles.toRun($0) }
        }
        // The weights that others replace are not fetched.
        let skipped = [(transformer, "transformer"), (textEncoder2, "text_encoder_2")].filter { $0.0 != nil }
        return (try await fetcher.modelFolder(model, withoutWeightsOf: Set(skipped.map(\.1))), options)
    }
}

/// What of the machine may be used.
struct MachineOptions: ParsableArguments {
    @Option(help: "Threads. Default: one for each core.")
    var threads: Int?

    @Option(
        help: ArgumentHelp(
            "Memory to stay below, such as 8G or 800M; larger models are then read from disk block by block. "
                + "Default: nine tenths of the machine's.",
            valueName: "bytes"))
    var memory: String?

    /// More threads than this are a slip of the keyboard.
    private static let maximumThreads = 1024

    mutating func validate() throws {
        if let threads, !(1...Self.maximumThreads).contains(threads) {
            throw ValidationError("--threads: found \(threads); expected a number from 1 to \(Self.maximumThreads)")
        }
        _ = try memoryLimit()
    }

    /// `memory` in bytes.
    func memoryLimit() throws -> Int? {
        guard let memory else { return nil }
        let units: [Character: Double] = ["K": 0x1p10, "M": 0x1p20, "G": 0x1p30, "T": 0x1p40]
        var digits = memory.uppercased()
        if digits.hasSuffix("B") { digits.removeLast() }
        if digits.hasSuffix("I") { digits.removeLast() }
        let unit = digits.last.flatMap { units[$0] }
        if unit != nil { digits.removeLast() }
        guard let value = Double(digits), value > 0, value * (unit ?? 1) < 0x1p60 else {
            throw ValidationError("--memory: found '\(memory)'; expected a size such as 8G or 800M")
        }
        return Int(value * (unit ?? 1))
    }
}

/// What is said while the work goes on, and at its end.
struct ReportOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Nothing on standard error but errors.")
    var quiet = false

    @Flag(help: "Print one JSON object on standard output at the end.")
    var json = false
}
