public import NibbleCheckpoints
public import NibbleModels
public import NibbleTensors

/// A FLUX.1 transformer that is quantized, and the steps of some pictures that it is shown.
public final class FluxNetwork: QuantizableNetwork {
    private let model: FluxTransformer
    private let source: any TensorSource
    private let schema: Int4FluxSchema
    private let sources: FluxLayerSources
    private let calibration: CalibrationInputs?
    private var passages: [FluxPassage] = []

    /// Opens a transformer.
    ///
    /// - Parameters:
    ///   - source: its weights under diffusers' names.
    ///   - config: its sizes.
    ///   - schema: its layers in 4 bits.
    ///   - calibration: what it is shown; nil: nothing.
    /// - Throws: `CheckpointError`.
    public init(
        _ source: any TensorSource, config: FluxConfig, schema: Int4FluxSchema, calibration: CalibrationInputs?
    ) throws(CheckpointError) {
        model = try FluxTransformer(config, weights: WeightReader(source))
        self.source = source
        self.schema = schema
        sources = FluxLayerSources(source, layers: schema.layers)
        self.calibration = calibration
    }

    /// See `QuantizableNetwork`.
    public var blockCount: Int { model.blockCount }

    /// See `QuantizableNetwork`.
    public func name(of block: Int) -> String { model.name(of: block) }

    /// See `QuantizableNetwork`.
    public func weights(of block: Int) -> MappedWeights { model.weights(of: block) }

    /// See `QuantizableNetwork`.
    public func member(_ layer: Int4Layer) throws(CheckpointError) -> LayerGroup.Member { try sources.member(layer) }

    /// See `QuantizableNetwork`.
    public func begin(on compute: Compute, memoryLimit: Int) throws -> Int {
        guard let calibration else { return 0 }
        let bytes = calibration.count * calibration.tokensPerPoint * model.config.hidden * MemoryLayout<Float>.stride
        guard bytes <= memoryLimit else {
            let fitting = max(1, calibration.count * memoryLimit / bytes)
            throw QuantizationError.tooLarge(
                what: "the residual streams of \(calibration.count) samples", bytes: bytes, limit: memoryLimit,
                advice: "take --samples \(fitting), a smaller --size or a larger --memory")
        }
        passages = (0..<calibration.count).map { point in
            model.begin(calibration[point], on: compute) { Tensor(zeros: $0, .float32) }
        }
        return passages.count
    }

    /// See `QuantizableNetwork`.
    public func apply(_ block: Int, to passage: Int, on compute: Compute) {
        model.apply(block, to: passages[passage], on: compute)
    }

    /// See `QuantizableNetwork`: Nunchaku's layers do.
    public var hasBranches: Bool { true }

    /// See `QuantizableNetwork`: as Nunchaku's file has them.
    public func stored(_ weights: Int4Weights) -> [String: Tensor] { weights.packed() }

    /// See `QuantizableNetwork`: a layer of a double block sees one of the two streams.
    public func tokens(of layer: Int4Layer) -> Int {
        guard let passage = passages.first else { return 0 }
        if layer.name.hasPrefix("single_") { return passage.stream.rows }
        return layer.name.contains("_context") ? passage.textTokens : passage.stream.rows - passage.textTokens
    }
}

// MARK: - Layers

extension FluxNetwork {
    /// Layers that share an input, by the ends of their names, and what the observer knows the input by.
    private static let doubleGroups = [
        (["qkv_proj"], "norm1.x"), (["qkv_proj_context"], "norm1_context.x"), (["out_proj"], "out_proj.x"),
        (["out_proj_context"], "out_proj_context.x"), (["mlp_fc1"], "mlp_fc1.x"), (["mlp_fc2"], "mlp_fc2.x"),
        (["mlp_context_fc1"], "mlp_context_fc1.x"), (["mlp_context_fc2"], "mlp_context_fc2.x"),
    ]

    /// An engine that quantizes the input once for both of the first two needs one vector of factors for both.
    private static let singleGroups = [
        (["qkv_proj", "mlp_fc1"], "norm.x"), (["out_proj"], "attn"), (["mlp_fc2"], "mlp_fc2.x"),
    ]

    /// See `QuantizableNetwork`.
    public func layers(of block: Int) -> BlockLayers {
        let doubles = model.config.doubleBlocks
        let isDouble = block < doubles
        let prefix = isDouble ? "transformer_blocks.\(block)." : "single_transformer_blocks.\(block - doubles)."
        let own = schema.layers.filter { $0.name.hasPrefix(prefix) }
        let byName = Dictionary(uniqueKeysWithValues: own.map { ($0.name, $0) })
        let groups = (isDouble ? Self.doubleGroups : Self.singleGroups).map { names, input in
            BlockLayers.Group(layers: names.compactMap { byName[prefix + $0] }, input: input)
        }
        return BlockLayers(
            groups: groups, modulations: own.filter { if case .w4a16 = $0.kind { true } else { false } })
    }
}

// MARK: - The whole

extension FluxNetwork {
    /// Writes the 4-bit model of a journal's blocks, which must all be there, as Nunchaku's single file.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - journal: the blocks.
    ///   - metadata: the strings of the file.
    ///   - progress: called now and then; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func write(
        to path: String, _ journal: QuantizationJournal, metadata: [String: String], progress: () throws -> Void
    ) throws {
        let blocks = try (0..<blockCount).map { try journal.tensors(of: $0) }
        var declarations = schema.plain.map { TensorDeclaration(name: $0.name, dtype: .bfloat16, shape: $0.shape) }
        for block in blocks {
            declarations += block.entries.map { TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape) }
        }
        let writer = try SafetensorsWriter(path, tensors: declarations, metadata: metadata)
        for block in blocks {
            try progress()
            for entry in block.entries { try writer.write(entry.name, block.tensor(entry.name)) }
        }
        for (name, shape) in schema.plain {
            let stored = try source.tensor(DiffusersLinear.name(plain: name, of: .nunchaku), expecting: shape)
            try writer.write(name, stored.inBFloat16)
        }
        try writer.finish()
    }
}
