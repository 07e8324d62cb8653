public import NibbleCheckpoints
public import NibbleTensors

/// T5 1.1's encoder (transformers' `T5EncoderModel`), run without a mask as diffusers' `FluxPipeline` does: padding
/// tokens attend and are attended to.
public struct T5Encoder: Sendable {
    /// The configuration.
    public let config: T5Config
    /// Every weight, to look for NaN when a result is not finite.
    public let weights: WeightReader

    private let embedding: Embedding
    private let relativeBias: T5RelativePositionBias
    private let blocks: [T5Block]
    private let finalNorm: RMSNorm

    /// Declares every weight, and fails if one is missing, has another shape, or is left over. The decoder of a whole T5
    /// is allowed to be there.
    ///
    /// - Parameters:
    ///   - config: the configuration.
    ///   - weights: a reader of tensors with transformers' names.
    /// - Throws: `CheckpointError`.
    public init(_ config: T5Config, weights: WeightReader) throws(CheckpointError) {
        try self.init(config, CheckpointLayers(weights))
    }

    /// Opens a 4-bit encoder.
    ///
    /// - Parameters:
    ///   - checkpoint: the layers; of T5's structure.
    ///   - pool: the threads that bring them into the kernels' order, where they do not lie in it; nil: this one.
    /// - Throws: `CheckpointError`: `.wrongFormat` for a transformer.
    public init(
        quantized checkpoint: any Int4Checkpoint, on pool: ThreadPool? = nil
    ) throws(CheckpointError) {
        try checkpoint.requireTextEncoder()
        try self.init(
            checkpoint.config(as: T5Config.self), CheckpointLayers(checkpoint, on: pool ?? ThreadPool(threadCount: 1)))
    }

    private init(_ config: T5Config, _ layers: CheckpointLayers) throws(CheckpointError) {
        self.config = config
        weights = layers.weights
        let encoder = layers["encoder"]
        // Two names of one tensor; a file holds either or both.
        let table =
            weights.contains("encoder.embed_tokens.weight") && !weights.contains("shared.weight")
            ? encoder.weights["embed_tokens"] : weights["shared"]
        embedding = try Embedding(table, count: config.vocabularySize, width: config.hidden)
        relativeBias = try T5RelativePositionBias(
            config, encoder["block", 0]["layer", 0]["SelfAttention"].weights["relative_attention_bias"])
        var blocks: [T5Block] = []
        for index in 0..<config.layers { blocks.append(try T5Block(config, encoder["block", index])) }
        self.blocks = blocks
        finalNorm = try RMSNorm(encoder.weights["final_layer_norm"], width: config.hidden, epsilon: config.epsilon)
        try layers.checkNothingIsLeftOver { name in
            name == "encoder.embed_tokens.weight" || name == "lm_head.weight" || name.hasPrefix("decoder.")
        }
    }

    /// The number of blocks.
    public var blockCount: Int { blocks.count }

    /// About how many bytes of activations a prompt takes.
    public func activationBytes(tokens: Int) -> Int {
        // In f32: the stream, the states, a branch's result and its input; either attention's q, k, v, their packed copies
        // and result, or both halves of the feed-forward.
        4 * tokens * (4 * config.hidden + max(6 * config.attentionWidth, 2 * config.feedForward))
    }

    /// Encodes a prompt.
    ///
    /// - Parameters:
    ///   - ids: the prompt's tokens, padded.
    ///   - residency: what becomes of a block's weights after its use.
    ///   - compute: what to compute with.
    ///   - beforeBlock: called before each block with its number; may throw to stop.
    /// - Returns: the states, `[tokens, hidden]` f32, in memory of their own.
    /// - Throws: `ModelError` for tokens that the network does not have, and what `beforeBlock` throws.
    public func callAsFunction(
        _ ids: [Int32], residency: Residency = .keep, on compute: Compute,
        beforeBlock: (_ block: Int) throws -> Void = { _ in }
    ) throws -> Tensor {
        let workspace = compute.workspace
        return try workspace.scope {
            let passage = try begin(ids, on: compute) { workspace.tensor($0, .float32) }
            for block in 0..<blockCount {
                try beforeBlock(block)
                compute.observe("t5_block_in.\(block)", passage.stream)
                if residency == .stream, block + 1 < blockCount { weights(of: block + 1).fetch() }
                apply(block, to: passage, on: compute)
                if residency == .stream { weights(of: block).release() }
            }
            return finish(passage, on: compute)
        }
    }
}

// MARK: - Block by block

/// A prompt on its way through the blocks.
public struct T5Passage: Sendable {
    /// The residual stream, `[tokens, hidden]` f32; changed by each block.
    public let stream: Tensor
    /// Of all distances.
    let bias: RelativeBias
    /// The rows until the first of the padding's: before the first block has told them apart by their distances, those
    /// after it are equal to it.
    let distinctRows: Int
}

extension T5Encoder {
    /// Looks up a prompt's tokens.
    ///
    /// - Parameters:
    ///   - ids: the prompt's tokens, padded.
    ///   - compute: what to compute with.
    ///   - memory: gives a tensor of f32 that lives as long as the passage.
    /// - Returns: the residual stream before the first block.
    /// - Throws: `ModelError` for tokens that the network does not have.
    public func begin(
        _ ids: [Int32], on compute: Compute, memory: (Shape) -> Tensor
    ) throws(ModelError) -> T5Passage {
        guard !ids.isEmpty else { throw ModelError.noTokens }
        let stream = memory([ids.count, config.hidden])
        try embedding(ids, into: stream, on: compute)
        let padding = ids.reversed().prefix { $0 == ids.last }.count
        return T5Passage(
            stream: stream, bias: relativeBias(tokens: ids.count, memory: memory),
            distinctRows: ids.count - padding + 1)
    }

    /// Applies a block; the observer sees its layers' inputs below the block's `name(of:)`.
    public func apply(_ block: Int, to passage: T5Passage, on compute: Compute) {
        let distinctRows = block == 0 ? passage.distinctRows : passage.stream.rows
        blocks[block](
            passage.stream, distinctRows: distinctRows, bias: passage.bias, name: name(of: block), on: compute)
    }

    /// Makes the states of the residual stream after the last block.
    ///
    /// - Parameters:
    ///   - passage: after all blocks.
    ///   - compute: what to compute with.
    /// - Returns: `[tokens, hidden]` f32, in memory of their own.
    public func finish(_ passage: T5Passage, on compute: Compute) -> Tensor {
        let states = Tensor(zeros: passage.stream.shape, .float32)
        finalNorm(passage.stream, into: states, on: compute)
        compute.observe("t5_hidden", states)
        return states
    }

    /// What the observer knows a block by: `block.0`, ….
    public func name(of block: Int) -> String { "block.\(block)" }

    /// A block's weights, to be fetched ahead of its use and released after it.
    public func weights(of block: Int) -> MappedWeights { blocks[block].mapped }
}
