internal import ArgumentParser
internal import Foundation
internal import NibblePipelines
internal import NibbleTensors

/// `nibble compare`: full precision and quantized transformers side by side.
struct CompareCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Draw in full precision and in 4 bits, with figures.",
        usage: "nibble compare --transformer <path> --output <folder> [options]",
        discussion: """
            Each prompt is drawn by the model's own transformer and by the others, from the same noise. The folder gets \
            the pictures, contact-sheet.png, and report.json: PSNR, SSIM, the latents' error after each step, the \
            residual stream's after each block of the first step, sizes, seconds. Ctrl-C keeps all that is done.
            """)

    /// What is drawn where no prompts are named: four that the embedded model learnt.
    static let defaultPrompts = ["red apple", "cat face", "penguin", "hot beverage"]

    @OptionGroup(title: "Models") var models: ModelsOptions
    @OptionGroup(title: "Pictures") var pictures: PicturesOptions
    @OptionGroup(title: "Output") var output: OutputOptions
    @OptionGroup(title: "Machine") var machine: MachineOptions

    struct ModelsOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "The model, as in 'nibble generate', with its own transformer. Default: the model that comes with Nibble.",
                valueName: "folder or name"), completion: .directory)
        var model: String?

        @Option(
            help: ArgumentHelp(
                "A transformer to compare with the model's own: what 'nibble generate --transformer' takes. May be given "
                    + "several times.", valueName: "path or name"), completion: .file())
        var transformer: [String]

        @Option(
            help: ArgumentHelp(
                "What the inputs of 4-bit layers are quantized to. May be given twice. Default: both, each "
                    + "in a column of its own."))
        var activations: [ActivationBits] = []

        @Option(
            help: "Numbers that all transformers compute in, but for 4-bit layers. Default: bf16.")
        var precision: Precision?

        @Option(
            help: ArgumentHelp(
                "What the attention of the others multiplies, as in 'nibble generate'; the model's own has that of the "
                    + "precision."))
        var attention: AttentionPrecision?
    }

    struct PicturesOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "A text file with a prompt on each line; empty lines and those that begin with # are skipped. Default: "
                    + CompareCommand.defaultPrompts.joined(separator: ", ") + ".", valueName: "file"),
            completion: .file())
        var prompts: String?

        @Option(help: "Pictures of each prompt.")
        var seeds: Int = 1

        @Option(help: "The seed of each prompt's first picture; the others have those after it.")
        var seed: UInt64 = 1

        @Option(help: "Steps. Default: 28, or 4 for models without guidance, such as FLUX.1-schnell.")
        var steps: Int?

        @Option(help: "How closely to follow the prompt. Default: 3.5; without effect on models without guidance.")
        var guidance: Float?

        @Option(help: "Pixels, a multiple of 16. Default: what the model was made for.")
        var width: Int?

        @Option(help: "Pixels, a multiple of 16. Default: what the model was made for.")
        var height: Int?
    }

    struct OutputOptions: ParsableArguments {
        @Option(
            name: .shortAndLong,
            help: ArgumentHelp(
                "The folder for all files, made where it is not there. Files of the same names are replaced.",
                valueName: "folder"), completion: .directory)
        var output: String

        @Flag(name: .shortAndLong, help: "Nothing on standard error but errors.")
        var quiet = false

        @Flag(help: "Print the report as one JSON object on standard output, in the place of the table.")
        var json = false
    }

    func run() async throws {
        let request = ComparisonRequest(
            prompts: try pictures.prompts.map(PromptFile.read) ?? Self.defaultPrompts, seed: pictures.seed,
            seedsPerPrompt: pictures.seeds, steps: pictures.steps, guidanceScale: pictures.guidance,
            width: pictures.width, height: pictures.height)
        try request.check()
        let folder = try ComparisonFolder(output.output)
        var reporter = ComparisonReporter(folder: folder, request: request, title: title, isQuiet: output.quiet)
        do {
            let comparison = try await open()
            for try await event in comparison(request) { try reporter.handle(event) }
            try Task.checkCancellation()
        } catch {
            try reporter.abandon()
            throw error
        }
        try reporter.finish(json: output.json)
    }

    /// The model's name; of a path the last part.
    private var title: String {
        let model = models.model ?? EmbeddedModel.path
        return FileManager.default.fileExists(atPath: model) ? URL(filePath: model).lastPathComponent : model
    }

    private func open() async throws -> FluxComparison {
        var options = FluxPipeline.Options()
        options.precision = models.precision ?? .bf16
        options.attention = models.attention
        options.threads = machine.threads
        options.memoryLimit = try machine.memoryLimit()
        let fetcher = ModelFetcher(isQuiet: output.quiet)
        let model = try await fetcher.modelFolder(models.model)
        var transformers: [String] = []
        for name in models.transformer { transformers.append(try await fetcher.transformer(name)) }
        let bits = models.activations.isEmpty ? ActivationBits.allCases : models.activations
        return try FluxComparison(
            model: model, transformers: transformers,
            activations: ActivationBits.allCases.filter(bits.contains), options: options)
    }
}
