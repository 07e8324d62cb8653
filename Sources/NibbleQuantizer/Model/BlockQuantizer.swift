internal import NibbleCheckpoints
public import NibbleTensors

/// Makes the blocks of a network smaller, one after the other (SVDQuant, Li et al., arXiv 2411.05007).
///
/// The 16-bit network runs on all that it is shown in lockstep, block by block: each block is observed, quantized and kept
/// in the journal, and the next one sees what the 16-bit block gave, as in the original implementation. A block's result
/// depends on the model, the recipe and the calibration alone, not on which blocks were quantized before by whom.
public final class BlockQuantizer {
    /// How far the work is.
    public struct Progress: Sendable {
        /// Parameters of layers that this run has quantized, and is going to.
        public let done, total: Int
        /// The block at work, such as `double.3`.
        public let block: String
        /// The layer at work; nil while the network runs.
        public let layer: String?
        /// ‖y_q − y‖ / ‖y‖ of the layer that was done last; nil without inputs.
        public let error: Float?
    }

    private let network: any QuantizableNetwork
    private let recipe: QuantizationRecipe
    private let journal: QuantizationJournal
    /// What the network runs with, and what layers are quantized with.
    private let running, solving: Compute
    private let memoryLimit: Int

    /// - Parameters:
    ///   - network: what is quantized.
    ///   - recipe: how; checked already.
    ///   - journal: where blocks are kept.
    ///   - precision: numbers that the observed network computes in.
    ///   - pool: the threads.
    ///   - memoryLimit: bytes to stay below.
    public init(
        _ network: any QuantizableNetwork, recipe: QuantizationRecipe, journal: QuantizationJournal,
        precision: Precision, pool: ThreadPool, memoryLimit: Int
    ) {
        self.network = network
        self.recipe = recipe
        self.journal = journal
        running = Compute(precision: precision, pool: pool)
        solving = Compute(precision: .f32, pool: pool)
        self.memoryLimit = memoryLimit
    }

    /// Quantizes blocks that the journal does not have yet.
    ///
    /// - Parameters:
    ///   - blocks: which ones.
    ///   - progress: called before each step of the work; may throw to stop, and blocks that are done stay.
    /// - Throws: `QuantizationError`, `CheckpointError`, or what `progress` throws.
    public func callAsFunction(
        _ blocks: some Sequence<Int>, progress: @escaping (Progress) throws -> Void
    ) throws {
        let missing = Set(blocks).filter { !journal.contains($0) }
        guard let last = missing.max() else { return }
        let account = Account(
            total: missing.reduce(0) { $0 + network.layers(of: $1).parameters }, report: progress)
        // The other half is for a block's weights, what is kept of its inputs, and the search.
        let passages = try network.begin(on: running, memoryLimit: memoryLimit / 2)
        // Without anything to show, and behind the last block that is missing, nothing need run.
        for block in 0...last where passages > 0 || missing.contains(block) {
            account.block = network.name(of: block)
            if missing.contains(block) {
                let layers = network.layers(of: block)
                let statistics = try observe(block, layers, passages, account)
                try quantize(block, layers, statistics, account)
            } else {
                try run(block, passages, observer: nil) { try account.show(nil) }
            }
            network.weights(of: block).release()
        }
    }

    /// What the caller hears of the work.
    private final class Account {
        let total: Int
        let report: (Progress) throws -> Void
        var done = 0
        var block = ""
        var error: Float?

        init(total: Int, report: @escaping (Progress) throws -> Void) {
            self.total = total
            self.report = report
        }

        func show(_ layer: String?) throws {
            try report(Progress(done: done, total: total, block: block, layer: layer, error: error))
        }
    }
}

// MARK: - Running the network

extension BlockQuantizer {
    /// Takes all passages through a block.
    private func run(
        _ block: Int, _ passages: Int, observer: ((String, Tensor) -> Void)?, before: () throws -> Void
    ) throws {
        running.observer = observer
        defer { running.observer = nil }
        if block + 1 < network.blockCount { network.weights(of: block + 1).fetch() }
        for passage in 0..<passages {
            try before()
            network.apply(block, to: passage, on: running)
        }
    }

    /// Runs a block and gathers what its layers see, group by group; nil where nothing is shown.
    private func observe(
        _ block: Int, _ layers: BlockLayers, _ passages: Int, _ account: Account
    ) throws -> [InputStatistics?] {
        guard passages > 0 else { return layers.groups.map { _ in nil } }
        let name = network.name(of: block)
        let collectors = layers.groups.map { group in
            InputCollector(
                width: group.layers[0].inputs, tokens: network.tokens(of: group.layers[0]) * passages,
                kept: recipe.tokens, shift: group.layers[0].shift, wantsMoment: recipe.gptq,
                seed: recipe.seed)
        }
        let byName = Dictionary(
            uniqueKeysWithValues: zip(layers.groups, collectors).map { ("\(name).\($0.input)", $1) })
        let observer = { [running] (name: String, x: Tensor) in
            if let collector = byName[name] { collector.add(x, on: running) }
        }
        try run(block, passages, observer: observer) { try account.show(nil) }
        for (group, collector) in zip(layers.groups, collectors) where !collector.isFinite {
            throw QuantizationError.notFinite(block: name, layer: group.layers[0].name)
        }
        running.workspace.release()
        return collectors.map { $0.statistics() }
    }
}

// MARK: - Quantizing

extension BlockQuantizer {
    private func quantize(
        _ block: Int, _ layers: BlockLayers, _ statistics: [InputStatistics?], _ account: Account
    ) throws {
        var tensors: [String: Tensor] = [:]
        var report = QuantizationReport(layers: [])
        func keep(_ name: String, _ packed: [String: Tensor]) {
            for (key, tensor) in packed { tensors["\(name).\(key)"] = tensor }
        }
        var layerRecipe = recipe.layer
        if recipe.branch == .none, !network.hasBranches { layerRecipe.rank = 0 }
        var quantize = LayerQuantizer(layerRecipe, seed: recipe.seed, on: solving)
        for (group, statistics) in zip(layers.groups, statistics) {
            quantize.onStep = { _ in try account.show(group.layers[0].name) }
            try account.show(group.layers[0].name)
            let started = ContinuousClock.now
            let members = try group.layers.map { try network.member($0) }
            let result = try quantize(
                LayerGroup(members: members, inputCodes: group.layers[0].inputCodes), statistics)
            let seconds = (ContinuousClock.now - started) / .seconds(1)
            for member in result.members {
                keep(member.name, network.stored(member.weights))
                account.error = member.error
            }
            report.layers += result.members.map { member in
                QuantizationReport.Layer(
                    name: member.name, naiveError: member.naiveError, error: member.error, alpha: result.alpha,
                    beta: result.beta, seconds: seconds)
            }
            account.done += group.layers.reduce(0) { $0 + $1.outputs * $1.inputs }
        }
        for layer in layers.modulations {
            guard case .w4a16(let splits) = layer.kind else { continue }
            let member = try network.member(layer)
            let weights = try ModulationQuantizer(on: solving)(
                member.weights[0], bias: member.bias, splits: splits, name: layer.name)
            keep(layer.name, weights.packed())
        }
        solving.workspace.release()
        try journal.keep(block, tensors, report)
    }
}
