internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibblePipelines
internal import NibbleQuantizer
internal import NibbleTensors

/// `nibble quantize`: a 16-bit model in, a 4-bit transformer or text encoder out.
struct QuantizeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quantize",
        abstract: "Make a 4-bit transformer or T5 encoder of a FLUX.1 model.",
        usage: "nibble quantize [<model>] --output <path> [options]",
        discussion: """
            SVDQuant: outliers go from activations into weights, the hard part of the weights into a low-rank branch, the \
            rest becomes 4 bits. The result is a file that Nunchaku reads, and 'nibble generate --transformer'. Of T5, which \
            in 16 bits is larger than a whole 4-bit transformer, it is a file for 'nibble generate --text-encoder-2'.

            What is done stays in OUTPUT.journal until the file is whole: after a Ctrl-C or a power cut the same command \
            goes on where it was, to the same bytes. Several processes may share the work ('--worker 1/2' and \
            '--worker 2/2', also on machines of one kind that share the folder).
            """)

    @Argument(
        help: ArgumentHelp(
            "A FLUX.1 model: a folder in diffusers' layout, or a name of the Hugging Face Hub. Default: the model that "
                + "comes with Nibble.", valueName: "model"), completion: .directory)
    var model: String?

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Where the 4-bit weights go: a .safetensors file.", valueName: "path"),
        completion: .file(extensions: ["safetensors"]))
    var output: String?

    @Option(help: "What becomes 4 bits: transformer, or text_encoder_2 (T5). Default: transformer.")
    var component: QuantizationRecipe.Component?

    @Option(
        help: ArgumentHelp(
            "Another 16-bit transformer for that model, such as a fine-tuned one: a folder, or a safetensors file with "
                + "diffusers' or BFL's names.", valueName: "path or name"), completion: .file())
    var transformer: String?

    @OptionGroup(title: "Recipe") var recipe: RecipeOptions

    @Option(
        help: ArgumentHelp(
            "What the model draws, or T5 reads, while it is observed: a text file with a prompt on each line. Default: the model's own "
                + "prompts.txt, or a list that comes with Nibble.", valueName: "file"), completion: .file())
    var prompts: String?

    @OptionGroup(title: "Share of the work") var share: ShareOptions

    @Option(help: "Numbers that the observed model computes in: bf16 is faster. Default: bf16.")
    var precision: Precision?

    @OptionGroup(title: "Machine") var machine: MachineOptions
    @OptionGroup(title: "Output") var report: ReportOptions

    @Option(
        help: ArgumentHelp(
            "The file's form. nunchaku: what Nunchaku reads. nibble: the order of our kernels, only mapped. nunchaku-lite: a "
                + "folder for diffusers. Default: nunchaku; of T5 always nibble.", valueName: "form"))
    var format: Int4Form?

    func validate() throws {
        if recipe.printRecipe { return }
        if component == .textEncoder2, let format, format != .nibble {
            throw ValidationError(
                "--format: found \(format.rawValue); expected nibble: no other form holds T5's layers")
        }
        if component == .textEncoder2, transformer != nil {
            throw ValidationError("--transformer and --component text_encoder_2 name two things; give one of them")
        }
        guard let output else { throw ValidationError("Say where the 4-bit weights go, with --output") }
        guard output.hasSuffix(".safetensors") != (format == .nunchakuLite) else {
            let expected = format == .nunchakuLite ? "a folder" : "a name that ends in .safetensors"
            throw ValidationError("--output: found '\(output)'; expected \(expected)")
        }
    }

    /// Enough for FLUX.1-dev, and what a machine of 16 GiB has left beside a browser.
    private static let standardMemory = 8 << 30

    func run() async throws {
        let recipe = try recipe.resolved(for: component ?? .transformer)
        guard !self.recipe.printRecipe, let output else {
            print(try RecipeOptions.yaml(recipe), terminator: "")
            return
        }
        let folder = try await modelFolder(for: recipe)
        let replacement = try await replacement()
        let order = QuantizationOrder(
            folder: folder, recipe: recipe, prompts: recipe.isCalibrated ? try chosenPrompts(recipe, folder) : [],
            form: format ?? (component == .textEncoder2 ? .nibble : .nunchaku), precision: precision ?? .bf16,
            threads: machine.threads,
            memoryLimit: try machine.memoryLimit() ?? Self.standardMemory)
        let subject: any QuantizationSubject =
            switch component ?? .transformer {
            case .transformer: try TransformerSubject(order, replacement: replacement)
            case .textEncoder2: try TextEncoderSubject(order)
            }
        let work = try QuantizationWork(output: output, order, subject)
        try await work.run(share: share.completed(by: recipe), report: report)
    }

    private func modelFolder(for recipe: QuantizationRecipe) async throws -> String {
        // Weights that nothing reads, or that --transformer replaces, are not fetched.
        let skipped: Set<String> =
            component == .textEncoder2
            ? ["transformer", "text_encoder", "vae"] : transformer == nil ? [] : ["transformer"]
        return try await ModelFetcher(isQuiet: report.quiet).modelFolder(model, withoutWeightsOf: skipped)
    }

    private func replacement() async throws -> String? {
        guard let transformer else { return nil }
        return try await ModelFetcher(isQuiet: report.quiet).path(of: transformer)
    }

    /// As many prompts as the recipe asks for, chosen by its seed; where there are fewer, they come again with other noise.
    private func chosenPrompts(_ recipe: QuantizationRecipe, _ folder: String) throws -> [String] {
        let all =
            try (prompts ?? recipe.prompts).map(PromptFile.read) ?? PromptFile.ofModel(folder) ?? calibrationPrompts
        let order = recipe.permutation(of: all.count)
        return (0..<recipe.promptCount).map { all[order[$0 % all.count]] }
    }
}

/// Which of the blocks this process makes.
struct ShareOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Make the second of eight shares of the blocks; who finishes last puts the file together.",
            valueName: "2/8"))
    var worker: String?

    @Option(help: ArgumentHelp("Make these blocks only.", valueName: "0-3"))
    var blocks: String?

    mutating func validate() throws {
        if worker != nil, blocks != nil {
            throw ValidationError("--worker and --blocks both choose blocks; give one of them")
        }
        _ = try chosen(of: 1 << 20)
    }

    /// These options and, where they say nothing, the blocks of a recipe.
    func completed(by recipe: QuantizationRecipe) -> ShareOptions {
        var completed = self
        if worker == nil { completed.blocks = blocks ?? recipe.blocks }
        return completed
    }

    /// The blocks of this process.
    func chosen(of count: Int) throws -> [Int] {
        if let worker {
            let parts = worker.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
            guard parts.count == 2, let number = parts[0], let workers = parts[1], workers >= 1,
                (1...workers).contains(number)
            else { throw ValidationError("--worker: found '\(worker)'; expected a share such as 2/8") }
            return Array(stride(from: number - 1, to: count, by: workers))
        }
        guard let blocks else { return Array(0..<count) }
        let ends = blocks.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first <= last,
            first >= 0
        else { throw ValidationError("--blocks: found '\(blocks)'; expected numbers such as 0-3 or 7") }
        guard last < count else {
            throw ValidationError("--blocks: found '\(blocks)'; the model has blocks 0-\(count - 1)")
        }
        return Array(first...last)
    }
}
