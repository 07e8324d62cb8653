public import NibbleCheckpoints
public import NibbleTensors

/// CLIP's text model (transformers' `CLIPTextModel`; Radford et al., arXiv 2103.00020, section 2.4). FLUX.1 uses the
/// pooled state, without CLIP's text projection.
public struct CLIPTextModel: Sendable {
    /// What the model makes of a text.
    public struct States: Sendable {
        /// After the last norm, `[tokens, hidden]` f32.
        public let last: Tensor
        /// The last state at the end token, `[1, hidden]` f32.
        public let pooled: Tensor
    }

    /// The configuration.
    public let config: CLIPTextConfig
    /// Every weight, to look for NaN when a result is not finite.
    public let weights: WeightReader

    private let tokens, positions: Embedding
    private let layers: [CLIPTextLayer]
    private let finalNorm: LayerNorm

    /// Declares every weight, and fails if one is missing, has another shape, or is left over.
    ///
    /// - Parameters:
    ///   - config: the configuration.
    ///   - weights: a reader of tensors with transformers' names, with `text_model.` before them or, as transformers 5
    ///     writes, without.
    /// - Throws: `CheckpointError`.
    public init(_ config: CLIPTextConfig, weights: WeightReader) throws(CheckpointError) {
        self.config = config
        self.weights = weights
        let isBare = weights.contains("embeddings.token_embedding.weight")
        let model = isBare ? weights : weights["text_model"]
        let embeddings = model["embeddings"]
        tokens = try Embedding(embeddings["token_embedding"], count: config.vocabularySize, width: config.hidden)
        positions = try Embedding(embeddings["position_embedding"], count: config.positions, width: config.hidden)
        var layers: [CLIPTextLayer] = []
        for index in 0..<config.layers { layers.append(try CLIPTextLayer(config, model["encoder"]["layers", index])) }
        self.layers = layers
        finalNorm = try LayerNorm(model["final_layer_norm"], width: config.hidden, epsilon: config.epsilon)
        // Old files hold the numbers 0, 1, 2, …; some the projection that FLUX.1 does without.
        try weights.checkNothingIsLeftOver { name in
            name.hasSuffix("embeddings.position_ids") || name.hasSuffix("text_projection.weight")
        }
    }

    /// The number of layers.
    public var blockCount: Int { layers.count }

    /// Encodes a prompt.
    ///
    /// - Parameters:
    ///   - ids: the prompt's tokens, padded.
    ///   - residency: what becomes of a layer's weights after its use.
    ///   - compute: what to compute with.
    ///   - beforeBlock: called before each layer with its number; may throw to stop.
    /// - Returns: the states, in memory of their own.
    /// - Throws: `ModelError` for tokens that the network cannot take, and what `beforeBlock` throws.
    public func callAsFunction(
        _ ids: [Int32], residency: Residency = .keep, on compute: Compute,
        beforeBlock: (_ block: Int) throws -> Void = { _ in }
    ) throws -> States {
        guard !ids.isEmpty else { throw ModelError.noTokens }
        guard ids.count <= config.positions else {
            throw ModelError.tooManyTokens(count: ids.count, maximum: config.positions)
        }
        let workspace = compute.workspace
        let last = Tensor(zeros: [ids.count, config.hidden], .float32)
        try workspace.scope {
            let stream = workspace.tensor(last.shape, .float32)
            try embed(ids, into: stream, on: compute)
            for (index, layer) in layers.enumerated() {
                try beforeBlock(index)
                compute.observe("clip_hidden.\(index)", stream)
                if residency == .stream, index + 1 < layers.count { layers[index + 1].mapped.fetch() }
                layer(stream, on: compute)
                if residency == .stream { layer.mapped.release() }
            }
            compute.observe("clip_hidden.\(layers.count)", stream)
            finalNorm(stream, into: last, on: compute)
        }
        compute.observe("clip_last_hidden", last)
        let position = Self.pooledPosition(ids, endToken: config.endToken)
        return States(last: last, pooled: last.rows(position..<position + 1))
    }

    private func embed(_ ids: [Int32], into stream: Tensor, on compute: Compute) throws(ModelError) {
        let workspace = compute.workspace
        try tokens(ids, into: stream, on: compute)
        workspace.scope {
            let places = workspace.tensor(stream.shape, .float32)
            compute.convert(positions.weight.rows(0..<ids.count), into: places)
            compute.add(places, to: stream)
        }
    }

    /// The token whose state stands for the text: the first end token, and the first token of all where there is none, as
    /// in transformers. Old configurations, FLUX.1's too, say 2, which is not CLIP's end token: there it is the first of
    /// the largest id.
    static func pooledPosition(_ ids: [Int32], endToken: Int) -> Int {
        let wanted = endToken == 2 ? ids.max() : Int32(exactly: endToken)
        return wanted.flatMap { ids.firstIndex(of: $0) } ?? 0
    }
}
