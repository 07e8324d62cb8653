public import ArgumentParser
internal import Foundation
internal import NibblePipelines
public import NibbleTensors

extension Precision: ExpressibleByArgument {}
extension ActivationBits: ExpressibleByArgument {}

/// Which model runs, and how.
struct ModelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A FLUX.1 model: a folder in diffusers' layout, or a name of the Hugging Face Hub (OWNER/NAME[@REVISION]). "
                + "Default: the model that comes with Nibble, which draws emoji.",
            valueName: "folder or name"))
    var model: String?

    @Option(
        help: ArgumentHelp(
            "Another transformer for that model: a folder, a safetensors file with diffusers' or BFL's names, or a name "
                + "of the Hub (OWNER/NAME[/FILE][@REVISION]).",
            valueName: "path or name"))
    var transformer: String?

    @Option(help: "Numbers to compute in: bf16 is faster and takes half the memory, f32 is the reference.")
    var precision: Precision?

    @OptionGroup var machine: MachineOptions

    /// A pipeline as the options say.
    ///
    /// - Parameters:
    ///   - record: what a picture says that it was made with; the options come first.
    ///   - isQuiet: no progress where a model has to be fetched.
    /// - Returns: the pipeline, with its model open.
    /// - Throws: what is wrong with the options or the model.
    func open(like record: GenerationRecord? = nil, isQuiet: Bool = false) async throws -> FluxPipeline {
        var options = FluxPipeline.Options()
        options.precision = precision ?? record?.precision ?? .bf16
        options.threads = machine.threads
        options.memoryLimit = try machine.memoryLimit()
        let fetcher = ModelFetcher(isQuiet: isQuiet)
        var folder = EmbeddedModel.path
        if let model {
            // The weights that --transformer replaces are not fetched.
            folder = try await fetcher.path(of: model, withoutWeightsOf: transformer == nil ? [] : ["transformer"])
        } else if transformer == nil, let record {
            // A path and never a name: nothing is fetched because a picture says so.
            folder = record.model
        }
        if let transformer { options.transformer = try await fetcher.path(of: transformer) }
        return try FluxPipeline(model: folder, options: options)
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
    @Flag(name: .shortAndLong, help: "No progress.")
    var quiet = false

    @Flag(help: "Print one JSON object at the end.")
    var json = false
}
