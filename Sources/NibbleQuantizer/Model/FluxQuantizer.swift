public import NibbleCheckpoints
public import NibbleModels
public import NibbleTensors

/// Makes the blocks of a FLUX.1 transformer smaller, one after the other (SVDQuant, Li et al., arXiv 2411.05007).
///
/// The 16-bit model runs on the calibration's inputs, all of them in lockstep, block by block: each block is observed,
/// quantized and kept in the journal, and the next one sees what the 16-bit block gave, as in the original
/// implementation. A block's result depends on the model, the recipe and the calibration alone, not on which blocks were
/// quantized before by whom.
public final class FluxQuantizer {
    /// How far the work is.
    public struct Progress: Sendable {
        /// Parameters of layers that this run has quantized, and is going to.
        public let done, total: Int
        /// The block at work, such as `double.3`.
        public let block: String
        /// The layer at work; nil while the model runs.
        public let layer: String?
        /// ‖y_q − y‖ / ‖y‖ of the layer that was done last.
        public let error: Float?
    }

    private let model: FluxTransformer
    private let source: any TensorSource
    private let schema: Int4FluxSchema
    private let sources: FluxLayerSources
    private let recipe: QuantizationRecipe
    private let journal: QuantizationJournal
    /// What the model runs with, and what layers are quantized with.
    private let running, solving: Compute
    private let memoryLimit: Int

    /// Opens a transformer.
    ///
    /// - Parameters:
    ///   - source: its weights under diffusers' names.
    ///   - config: its sizes.
    ///   - schema: its layers in 4 bits.
    ///   - recipe: how to quantize; checked already.
    ///   - journal: where blocks are kept.
    ///   - precision: numbers that the observed model computes in.
    ///   - pool: the threads.
    ///   - memoryLimit: bytes to stay below.
    /// - Throws: `CheckpointError`.
    public init(
        _ source: any TensorSource, config: FluxConfig, schema: Int4FluxSchema, recipe: QuantizationRecipe,
        journal: QuantizationJournal, precision: Precision, pool: ThreadPool, memoryLimit: Int
    ) throws(CheckpointError) {
        model = try FluxTransformer(config, weights: WeightReader(source))
        self.source = source
        self.schema = schema
        sources = FluxLayerSources(source, layers: schema.layers)
        self.recipe = recipe
        self.journal = journal
        running = Compute(precision: precision, pool: pool)
        solving = Compute(precision: .f32, pool: pool)
        self.memoryLimit = memoryLimit
    }

    /// The number of blocks.
    public var blockCount: Int { model.blockCount }

    /// Quantizes blocks that the journal does not have yet.
    ///
    /// - Parameters:
    ///   - blocks: which ones.
    ///   - calibration: what the model saw; nil where the recipe needs none.
    ///   - progress: called before each step of the work; may throw to stop, and blocks that are done stay.
    /// - Throws: `QuantizationError`, `CheckpointError`, or what `progress` throws.
    public func callAsFunction(
        _ blocks: some Sequence<Int>, calibration: CalibrationInputs?, progress: @escaping (Progress) throws -> Void
    ) throws {
        let missing = Set(blocks).filter { !journal.contains($0) }
        guard let last = missing.max() else { return }
        var account = Account(total: missing.reduce(0) { $0 + parameters(of: layers(of: $1)) }, report: progress)
        let passages = try begin(calibration)
        // Blocks behind the last one that is missing need not run.
        for block in calibration == nil ? missing.sorted() : Array(0...last) {
            account.block = model.name(of: block)
            guard missing.contains(block) else {
                try run(block, passages, observer: nil, before: { try account.show(nil) })
                continue
            }
            let layers = layers(of: block)
            let statistics = try observe(block, layers, passages, &account)
            try quantize(block, layers, statistics, &account)
            model.weights(of: block).release()
        }
    }

    private func layers(of block: Int) -> FluxBlockLayers {
        let doubles = model.config.doubleBlocks
        let prefix =
            block < doubles ? "transformer_blocks.\(block)." : "single_transformer_blocks.\(block - doubles)."
        return FluxBlockLayers(schema.layers, prefix: prefix)
    }

    private func parameters(of layers: FluxBlockLayers) -> Int {
        layers.groups.flatMap(\.layers).reduce(0) { $0 + $1.outputs * $1.inputs }
    }
}

// MARK: - Running the model

extension FluxQuantizer {
    /// Embeds all inputs; their residual streams are what walks from block to block.
    private func begin(_ calibration: CalibrationInputs?) throws -> [FluxPassage] {
        guard let calibration else { return [] }
        let bytes = calibration.count * calibration.tokensPerPoint * model.config.hidden * MemoryLayout<Float>.stride
        // The rest is for a block's weights, what is kept of its inputs, and the search.
        guard bytes <= memoryLimit / 2 else {
            let fitting = max(1, calibration.count * (memoryLimit / 2) / bytes)
            throw QuantizationError.tooLarge(
                what: "the residual stream of \(calibration.count) samples", bytes: bytes, limit: memoryLimit / 2,
                advice: "take --samples \(fitting), a smaller --size or a larger --memory")
        }
        return (0..<calibration.count).map { point in
            model.begin(calibration[point], on: running) { Tensor(zeros: $0, .float32) }
        }
    }

    /// Applies a block to all residual streams.
    private func run(
        _ block: Int, _ passages: [FluxPassage], observer: ((String, Tensor) -> Void)?,
        before: () throws -> Void
    ) throws {
        running.observer = observer
        defer { running.observer = nil }
        if block + 1 < blockCount { model.weights(of: block + 1).fetch() }
        for passage in passages {
            try before()
            model.apply(block, to: passage, on: running)
        }
        if observer == nil { model.weights(of: block).release() }
    }

    /// Runs a block and gathers what its layers see; one for each group.
    private func observe(
        _ block: Int, _ layers: FluxBlockLayers, _ passages: [FluxPassage], _ account: inout Account
    ) throws -> [InputStatistics?] {
        guard !passages.isEmpty else { return layers.groups.map { _ in nil } }
        let name = model.name(of: block)
        let collectors = layers.groups.map { collector(of: $0, passages) }
        let byName = Dictionary(
            uniqueKeysWithValues: zip(layers.groups, collectors).map { ("\(name).\($0.input)", $1) })
        try run(block, passages) { [running] name, x in
            byName[name]?.add(x, on: running)
        } before: {
            try account.show(nil)
        }
        for (group, collector) in zip(layers.groups, collectors) where !collector.isFinite {
            throw QuantizationError.notFinite(block: name, layer: group.layers[0].name)
        }
        running.workspace.release()
        return collectors.map { $0.statistics() }
    }

    private func collector(of group: FluxBlockLayers.Group, _ passages: [FluxPassage]) -> InputCollector {
        let layer = group.layers[0]
        let text = passages[0].textTokens
        let all = passages[0].stream.rows
        // A layer of a double block sees one of the two streams.
        let tokens = layer.name.hasPrefix("single_") ? all : layer.name.contains("_context") ? text : all - text
        return InputCollector(
            width: layer.inputs, tokens: tokens * passages.count, kept: recipe.tokens, shift: layer.shift,
            wantsMoment: recipe.gptq, seed: recipe.seed)
    }
}

// MARK: - Quantizing

extension FluxQuantizer {
    private func quantize(
        _ block: Int, _ layers: FluxBlockLayers, _ statistics: [InputStatistics?], _ account: inout Account
    ) throws {
        var tensors: [String: Tensor] = [:]
        var report = QuantizationReport(layers: [])
        func keep(_ name: String, _ packed: [String: Tensor]) {
            for (key, tensor) in packed { tensors["\(name).\(key)"] = tensor }
        }
        for (group, statistics) in zip(layers.groups, statistics) {
            let started = ContinuousClock.now
            try account.show(group.layers[0].name)
            let members = try group.layers.map { try sources.member($0) }
            let result = try LayerQuantizer(recipe.layer, seed: recipe.seed, on: solving)(
                LayerGroup(members: members, isUnsigned: group.layers[0].shift != 0), statistics)
            let seconds = (ContinuousClock.now - started) / .seconds(1)
            for member in result.members {
                keep(member.name, member.weights.packed())
                report.layers.append(
                    QuantizationReport.Layer(
                        name: member.name, naiveError: member.naiveError, error: member.error, alpha: result.alpha,
                        beta: result.beta, seconds: seconds))
                account.error = member.error
            }
            account.done += group.layers.reduce(0) { $0 + $1.outputs * $1.inputs }
        }
        for layer in layers.modulations {
            guard case .w4a16(let splits) = layer.kind else { continue }
            let member = try sources.member(layer)
            let weights = try ModulationQuantizer.quantize(
                name: layer.name, weight: member.weights[0], bias: member.bias, splits: splits)
            keep(layer.name, weights.packed())
        }
        solving.workspace.release()
        try journal.keep(block, tensors, report)
    }

    /// What the caller hears of the work.
    private struct Account {
        let total: Int
        let report: (Progress) throws -> Void
        var done = 0
        var block = ""
        var error: Float?

        func show(_ layer: String?) throws {
            try report(Progress(done: done, total: total, block: block, layer: layer, error: error))
        }
    }
}

// MARK: - The whole

extension FluxQuantizer {
    /// Blocks that the journal does not have yet.
    public var missingBlocks: [Int] { (0..<blockCount).filter { !journal.contains($0) } }

    /// Writes the 4-bit model of the journal's blocks, which must all be there, as Nunchaku's single file.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - configuration: the text of the transformer's `config.json`.
    ///   - progress: called now and then; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func write(to path: String, configuration: String, progress: () throws -> Void) throws {
        let blocks = try (0..<blockCount).map { try journal.tensors(of: $0) }
        var declarations = schema.plain.map { TensorDeclaration(name: $0.name, dtype: .bfloat16, shape: $0.shape) }
        for block in blocks {
            declarations += block.entries.map {
                TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape)
            }
        }
        let writer = try SafetensorsWriter(
            path, tensors: declarations,
            metadata: NunchakuCheckpoint.metadata(configuration: configuration, rank: recipe.rank))
        for block in blocks {
            try progress()
            for entry in block.entries { try writer.write(entry.name, block.tensor(entry.name)) }
        }
        for (name, shape) in schema.plain {
            let stored = try source.tensor(DiffusersLinear.name(plain: name), expecting: shape)
            let rounded = Tensor(zeros: stored.shape, .bfloat16)
            solving.convert(stored.matrix, into: rounded.matrix)
            try writer.write(name, rounded)
        }
        try writer.finish()
    }
}

extension Tensor {
    /// A vector as a matrix of one row.
    fileprivate var matrix: Tensor { shape.rank == 1 ? reshaped([1, elementCount]) : self }
}
