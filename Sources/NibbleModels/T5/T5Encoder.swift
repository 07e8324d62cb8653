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
        self.config = config
        self.weights = weights
        let encoder = weights["encoder"]
        // Two names of one tensor; a file holds either or both.
        let table =
            weights.contains("encoder.embed_tokens.weight") && !weights.contains("shared.weight")
            ? encoder["embed_tokens"] : weights["shared"]
        embedding = try Embedding(table, count: config.vocabularySize, width: config.hidden)
        relativeBias = try T5RelativePositionBias(
            config, encoder["block", 0]["layer", 0]["SelfAttention"]["relative_attention_bias"])
        var blocks: [T5Block] = []
        for index in 0..<config.layers { blocks.append(try T5Block(config, encoder["block", index])) }
        self.blocks = blocks
        finalNorm = try RMSNorm(encoder["final_layer_norm"], width: config.hidden, epsilon: config.epsilon)
        try weights.checkNothingIsLeftOver { name in
            name == "encoder.embed_tokens.weight" || name == "lm_head.weight" || name.hasPrefix("decoder.")
        }
    }

    /// The number of blocks.
    public var blockCount: Int { blocks.count }

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
        guard !ids.isEmpty else { throw ModelError.noTokens }
        let workspace = compute.workspace
        let states = Tensor(zeros: [ids.count, config.hidden], .float32)
        try workspace.scope {
            let stream = workspace.tensor(states.shape, .float32)
            try embedding(ids, into: stream, on: compute)
            let bias = relativeBias(tokens: ids.count, on: compute)
            for (index, block) in blocks.enumerated() {
                try beforeBlock(index)
                compute.observe("t5_block_in.\(index)", stream)
                if residency == .stream, index + 1 < blocks.count { blocks[index + 1].mapped.fetch() }
                block(stream, bias: bias, on: compute)
                if residency == .stream { block.mapped.release() }
            }
            finalNorm(stream, into: states, on: compute)
        }
        compute.observe("t5_hidden", states)
        return states
    }
}
