public import NibbleCheckpoints
internal import NibbleModels
public import NibbleTensors

/// A T5 encoder that is quantized, and the prompts that it is shown.
public final class T5Network: QuantizableNetwork {
    private let model: T5Encoder
    private let source: any TensorSource
    private let schema: Int4T5Schema
    private let configuration: String
    private let prompts: [[Int32]]
    private var passages: [T5Passage] = []

    /// Opens an encoder.
    ///
    /// - Parameters:
    ///   - source: its weights under transformers' names.
    ///   - configuration: the text of its `config.json`.
    ///   - prompts: the tokens that it is shown, padded, as many of each; none: nothing is shown.
    /// - Throws: `CheckpointError`: `.wrongConfiguration` also for an activation that 4-bit layers do not know.
    public init(
        _ source: any TensorSource, configuration: String, prompts: [[Int32]]
    ) throws(CheckpointError) {
        precondition(Set(prompts.map(\.count)).count <= 1, "prompts of several lengths")
        let config = try T5Config(json: configuration, path: source.location)
        guard config.activation == .geluTanh else {
            throw .wrongConfiguration(
                path: source.location, key: "dense_act_fn", found: "\(config.activation)",
                expected: "gelu_new: 4-bit layers know no other")
        }
        model = try T5Encoder(config, weights: WeightReader(source))
        schema = try Int4T5Schema(configuration: configuration, path: source.location)
        self.source = source
        self.configuration = configuration
        self.prompts = prompts
    }

    /// See `QuantizableNetwork`.
    public var blockCount: Int { model.blockCount }

    /// See `QuantizableNetwork`.
    public func name(of block: Int) -> String { model.name(of: block) }

    /// See `QuantizableNetwork`.
    public func weights(of block: Int) -> MappedWeights { model.weights(of: block) }

    /// See `QuantizableNetwork`: the layers that it joins, without a bias.
    public func member(_ layer: Int4Layer) throws(CheckpointError) -> LayerGroup.Member {
        var weights: [Tensor] = []
        for name in Int4T5Names.parts(of: layer.name) { weights.append(try source.tensor("\(name).weight")) }
        return LayerGroup.Member(name: layer.name, weights: weights, bias: Tensor(zeros: [layer.outputs], .float32))
    }

    /// See `QuantizableNetwork`.
    public func begin(on compute: Compute, memoryLimit: Int) throws -> Int {
        let tokens = prompts.first?.count ?? 0
        let bytes = prompts.count * tokens * model.config.hidden * MemoryLayout<Float>.stride
        guard bytes <= memoryLimit else {
            throw QuantizationError.tooLarge(
                what: "the residual streams of \(prompts.count) passages", bytes: bytes, limit: memoryLimit,
                advice: "\(prompts.count * memoryLimit / bytes) would fit: take fewer --samples or a larger --memory")
        }
        passages = try prompts.map { try model.begin($0, on: compute) { Tensor(zeros: $0, .float32) } }
        return passages.count
    }

    /// See `QuantizableNetwork`.
    public func apply(_ block: Int, to passage: Int, on compute: Compute) {
        model.apply(block, to: passages[passage], on: compute)
    }

    /// See `QuantizableNetwork`: all of them.
    public func tokens(of layer: Int4Layer) -> Int { passages.first?.stream.rows ?? 0 }

    /// See `QuantizableNetwork`: the observer knows an input by the layer that reads it.
    public func layers(of block: Int) -> BlockLayers {
        let own = schema.layers.filter { $0.name.hasPrefix("encoder.block.\(block).") }
        let groups = own.map { layer in
            BlockLayers.Group(layers: [layer], input: "\(layer.name.split(separator: ".").last ?? "").x")
        }
        return BlockLayers(groups: groups, modulations: [])
    }

    /// See `QuantizableNetwork`: a T5 layer need not have a branch.
    public var hasBranches: Bool { false }

    /// See `QuantizableNetwork`: as a nibble file has them, since no other form has T5.
    public func stored(_ weights: Int4Weights) -> [String: Tensor] { weights.kernelOrder() }
}

// MARK: - The whole

extension T5Network {
    /// Writes the 4-bit encoder of a journal's blocks, which must all be there, as a nibble file.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - journal: the blocks.
    ///   - progress: called now and then; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func write(to path: String, _ journal: QuantizationJournal, progress: () throws -> Void) throws {
        let blocks = try (0..<blockCount).map { try journal.tensors(of: $0) }
        let layers = zip(blocks.indices, blocks).flatMap { index, block in declarations(of: index, in: block) }
        let plain = schema.plain.map { TensorDeclaration(name: $0.name, dtype: .bfloat16, shape: $0.shape) }
        let writer = try NibbleCheckpoint.textEncoderWriter(
            path, layers: layers, plain: plain, configuration: configuration)
        for block in blocks {
            try progress()
            for entry in block.entries { try writer.write(entry.name, block.tensor(entry.name)) }
        }
        for (name, shape) in schema.plain {
            // Two names of one tensor; a file holds either or both.
            let isOther = name == "shared.weight" && !source.tensorNames.contains(name)
            let stored = try source.tensor(isOther ? "encoder.embed_tokens.weight" : name, expecting: shape)
            try writer.write(name, stored.inBFloat16)
        }
        try writer.finish()
    }

    /// A block's tensors in the order in which its layers are used.
    private func declarations(of index: Int, in block: SafetensorsFile) -> [TensorDeclaration] {
        let names = layers(of: index).groups.flatMap(\.layers).flatMap { layer in
            ["codes", "scales", "down", "up", "smooth"].map { "\(layer.name).\($0)" }
        }
        return names.compactMap(block.entry).map {
            TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape)
        }
    }
}
