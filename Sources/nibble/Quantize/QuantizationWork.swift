internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleModels
internal import NibblePipelines
internal import NibbleQuantizer
internal import NibbleTensors

/// A quantization from its journal's beginning to the file.
struct QuantizationWork {
    /// What of the machine is used.
    struct Machine {
        let precision: Precision
        let threads: Int?
        let memoryLimit: Int
    }

    private let output: String
    private let folder: String
    private let transformer: String?
    private let recipe: QuantizationRecipe
    private let prompts: [String]
    private let machine: Machine
    private let model: FluxPipeline.PlainTransformer
    private let schema: Int4FluxSchema
    private let journal: QuantizationJournal

    /// Opens the model and the journal.
    init(
        output: String, folder: String, transformer: String?, recipe: QuantizationRecipe, prompts: [String],
        machine: Machine
    ) throws {
        self.output = output
        self.folder = folder
        self.transformer = transformer
        self.recipe = recipe
        self.prompts = prompts
        self.machine = machine
        model = try FluxPipeline.PlainTransformer(of: ModelFolder(folder), replacement: transformer)
        schema = try Int4FluxSchema(configuration: model.configuration, path: model.source.location)
        var arguments = recipe.arguments
        arguments["model"] = WeightReader(model.source).fingerprint
        if recipe.isCalibrated {
            arguments["prompts"] = prompts.joined(separator: "\n")
            arguments["precision"] = machine.precision.rawValue
        }
        // Floats differ in their last bits between instruction sets, and a bit can turn a code.
        arguments["instruction set"] = InstructionSet.current.description
        journal = try QuantizationJournal(output + ".journal", arguments: arguments)
    }

    /// Does a share of the work, and puts the file together if nothing is missing then.
    func run(share: ShareOptions, report: ReportOptions) async throws {
        let started = ContinuousClock.now
        let line = QuantizationLine(isQuiet: report.quiet)
        defer { line.clear() }
        let count = model.config.doubleBlocks + model.config.singleBlocks
        let blocks = try share.chosen(of: count)
        let missing = blocks.filter { !journal.contains($0) }
        if !missing.isEmpty, missing.count < blocks.count {
            line.say("going on: \(blocks.count - missing.count) of \(blocks.count) blocks are done already")
        }
        let network = try FluxNetwork(
            model.source, config: model.config, schema: schema,
            calibration: missing.isEmpty ? nil : try await calibration(line))
        let quantize = BlockQuantizer(
            network, recipe: recipe, journal: journal, precision: machine.precision,
            pool: ThreadPool(threadCount: machine.threads), memoryLimit: machine.memoryLimit)
        try quantize(missing) { progress in
            try Task.checkCancellation()
            line.show(progress)
        }
        let left = (0..<count).filter { !journal.contains($0) }
        guard left.isEmpty else {
            let numbers = left.prefix(12).map(String.init).joined(separator: ", ") + (left.count > 12 ? ", …" : "")
            line.say(
                "blocks \(numbers) are left to others; whoever finishes last writes \(output), and the same command "
                    + "without a share makes what is missing")
            return
        }
        try network.write(
            to: output, journal,
            metadata: NunchakuCheckpoint.metadata(configuration: model.configuration, rank: recipe.rank)
        ) { try Task.checkCancellation() }
        let summary = QuantizationSummary(
            try journal.report(of: 0..<count), output: output,
            seconds: (ContinuousClock.now - started) / .seconds(1))
        try summary.write(besides: output)
        journal.remove()
        line.clear()
        try report.json ? printJSON(summary) : summary.print(isQuiet: report.quiet)
    }

    /// What the model sees while it draws: from the journal, or drawn now.
    private func calibration(_ line: QuantizationLine) async throws -> CalibrationInputs? {
        guard recipe.isCalibrated else { return nil }
        if let kept = try journal.calibration() { return kept }
        var options = FluxPipeline.Options()
        options.precision = machine.precision
        options.threads = machine.threads
        options.memoryLimit = machine.memoryLimit
        options.transformer = transformer
        let pipeline = try FluxPipeline(model: folder, options: options)
        let side = recipe.size ?? min(512, pipeline.standardSide)
        let requests = prompts.enumerated().map { index, prompt in
            FluxRequest(
                prompt: prompt, steps: recipe.steps, width: side, height: side, seed: recipe.seed &+ UInt64(index))
        }
        let recorded = try await pipeline.recordInputs(of: requests) { line.show($0) }
        let calibration = CalibrationInputs(trajectories: recorded, samples: recipe.samples)
        try journal.keep(calibration)
        return calibration
    }
}
