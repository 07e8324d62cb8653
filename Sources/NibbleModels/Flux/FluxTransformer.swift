public import NibbleCheckpoints
public import NibbleTensors

/// FLUX.1's transformer (diffusers' `FluxTransformer2DModel`): predicts the flow at a timestep from latents, the
/// prompt's states and its pooled vector.
public struct FluxTransformer: Sendable {
    /// What a prediction is made from.
    public struct Inputs: Sendable {
        /// Packed latents, `[imageTokens, inChannels]` f32.
        public var latents: Tensor
        /// T5's states, `[textTokens, jointAttentionDim]` f32.
        public var text: Tensor
        /// CLIP's pooled state, `[1, pooledProjectionDim]` f32.
        public var pooled: Tensor
        /// The timestep times 1000.
        public var timestep: Float
        /// The guidance times 1000; without effect where the configuration has no `guidance_embeds`.
        public var guidance: Float
        /// Of all tokens, text first.
        public var rotary: RotaryAngles

        /// See the properties.
        public init(
            latents: Tensor, text: Tensor, pooled: Tensor, timestep: Float, guidance: Float, rotary: RotaryAngles
        ) {
            self.latents = latents
            self.text = text
            self.pooled = pooled
            self.timestep = timestep
            self.guidance = guidance
            self.rotary = rotary
        }
    }

    /// The configuration.
    public let config: FluxConfig
    /// Every weight, to look for NaN when a prediction is not finite.
    public let weights: WeightReader

    /// Whether the blocks' layers have 4-bit weights.
    public let isQuantized: Bool

    let imageEmbedder, textEmbedder, output: Linear
    let conditioningEmbedding: ConditioningEmbedding
    let doubleBlocks: [FluxDoubleBlock]
    let singleBlocks: [FluxSingleBlock]
    let outputModulation: Modulation

    /// Declares every weight, and fails if one is missing, has another shape, or is left over.
    ///
    /// - Parameters:
    ///   - config: the configuration.
    ///   - weights: a reader of tensors with diffusers' names.
    /// - Throws: `CheckpointError`.
    public init(_ config: FluxConfig, weights: WeightReader) throws(CheckpointError) {
        try self.init(config, CheckpointLayers(weights))
    }

    /// Opens a 4-bit transformer. Where the blocks' layers do not lie in the kernels' order already, as they do in a nibble
    /// file, they are read and brought into it, in memory of their own.
    ///
    /// - Parameters:
    ///   - config: the configuration.
    ///   - checkpoint: the layers.
    ///   - pool: the threads that bring them into order; nil: this one.
    /// - Throws: `CheckpointError`.
    public init(
        _ config: FluxConfig, quantized checkpoint: any Int4Checkpoint, on pool: ThreadPool? = nil
    ) throws(CheckpointError) {
        try checkpoint.requireTransformer()
        try self.init(config, CheckpointLayers(checkpoint, on: pool ?? ThreadPool(threadCount: 1)))
    }

    private init(_ config: FluxConfig, _ layers: CheckpointLayers) throws(CheckpointError) {
        self.config = config
        weights = layers.weights
        isQuantized = layers.areQuantized
        let hidden = config.hidden
        imageEmbedder = try Linear(weights["x_embedder"], input: config.inChannels, output: hidden)
        textEmbedder = try Linear(weights["context_embedder"], input: config.jointAttentionDim, output: hidden)
        conditioningEmbedding = try ConditioningEmbedding(config, weights["time_text_embed"])
        var doubles: [FluxDoubleBlock] = []
        for index in 0..<config.doubleBlocks {
            doubles.append(try FluxDoubleBlock(config, layers["transformer_blocks", index]))
        }
        doubleBlocks = doubles
        var singles: [FluxSingleBlock] = []
        for index in 0..<config.singleBlocks {
            singles.append(try FluxSingleBlock(config, layers["single_transformer_blocks", index]))
        }
        singleBlocks = singles
        // Mind the order: diffusers stores scale, shift here, and shift, scale everywhere else.
        outputModulation = Modulation(
            try Linear(weights["norm_out"]["linear"], input: hidden, output: 2 * hidden), hidden: hidden, chunks: 2,
            scales: [0])
        output = try Linear(weights["proj_out"], input: hidden, output: config.outChannels)
        try layers.checkNothingIsLeftOver()
    }

    /// The number of blocks.
    public var blockCount: Int { doubleBlocks.count + singleBlocks.count }

    /// About how many bytes of activations predictions take that are made in lockstep.
    ///
    /// - Parameters:
    ///   - tokens: of each, text and image.
    ///   - predictions: how many.
    ///   - hasCache: whether a `FirstBlockCache` is used.
    /// - Returns: bytes.
    public func activationBytes(tokens: Int, predictions: Int = 1, hasCache: Bool = false) -> Int {
        // For each token at most: x, q, k, v, their packed copies and the joined row of a single block (5 × hidden) in 16
        // bits, a product's sums in f32, and for each prediction the residual stream in f32.
        let cache = hasCache ? FirstBlockCache.byteCount(tokens: tokens, hidden: config.hidden) : 0
        return cache + tokens * config.hidden * (4 * predictions + 4 + 2 * (1 + 3 + 2 + 5))
    }

    /// Multiply-adds of a prediction: all linear layers and both products of attention.
    public func multiplyAdds(imageTokens: Int, textTokens: Int) -> Double {
        let hidden = Double(config.hidden)
        let (image, text) = (Double(imageTokens), Double(textTokens))
        let tokens = image + text
        // In either kind of block a token passes 12 hidden² of linear layers: q, k, v, output, and the MLP of ratio 4.
        let blocks = Double(blockCount) * tokens * (12 * hidden * hidden + 2 * tokens * hidden)
        let modulations = hidden * hidden * Double(12 * config.doubleBlocks + 3 * config.singleBlocks + 2)
        let ends =
            hidden * (image * Double(config.inChannels + config.outChannels) + text * Double(config.jointAttentionDim))
        return blocks + modulations + ends
    }
}
