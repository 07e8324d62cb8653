internal import NibbleTensors

/// The sizes of a FLUX.1 transformer as its tensors show them, for a file that comes without `config.json`. Names are
/// those of diffusers' configuration.
public struct FluxDimensions: Sendable, Equatable {
    /// Double blocks, with separate weights for picture and text.
    public let numLayers: Int
    /// Single blocks.
    public let numSingleLayers: Int
    /// Channels of the residual stream.
    public let hidden: Int
    /// Channels of each head.
    public let headDim: Int
    /// Channels of a packed latent.
    public let inChannels: Int
    /// Channels of the sequence of text states.
    public let jointAttentionDim: Int
    /// Channels of the pooled text state.
    public let pooledProjectionDim: Int
    /// Whether guidance is an input (FLUX.1-dev), or the model was distilled without (schnell).
    public let guidanceEmbeds: Bool

    /// Heads of attention.
    public var numAttentionHeads: Int { hidden / headDim }

    /// Reads the sizes off names and shapes.
    ///
    /// - Parameter source: tensors in diffusers' names; see `Checkpoint.open`.
    /// - Throws: `CheckpointError` where a tensor that tells is missing or contradicts the others.
    public init(of source: any TensorSource) throws(CheckpointError) {
        numLayers = try Self.blockCount("transformer_blocks", in: source)
        numSingleLayers = try Self.blockCount("single_transformer_blocks", in: source)
        guard numLayers + numSingleLayers > 0 else {
            throw .missingTensor(path: source.location, name: "transformer_blocks.0.attn.norm_q.weight")
        }
        (hidden, inChannels) = try Self.matrix("x_embedder.weight", in: source)
        (_, jointAttentionDim) = try Self.matrix("context_embedder.weight", in: source)
        (_, pooledProjectionDim) = try Self.matrix("time_text_embed.text_embedder.linear_1.weight", in: source)
        guidanceEmbeds = source.tensorNames.contains("time_text_embed.guidance_embedder.linear_1.weight")
        let gain = "\(numLayers > 0 ? "" : "single_")transformer_blocks.0.attn.norm_q.weight"
        let shape = try source.tensor(gain).shape
        guard shape.rank == 1, shape[0] > 0, hidden.isMultiple(of: shape[0]) else {
            throw .malformedTensor(
                path: source.location, name: gain, reason: "\(shape) does not divide \(hidden) channels into heads")
        }
        headDim = shape[0]
    }

    private static func blockCount(_ list: String, in source: any TensorSource) throws(CheckpointError) -> Int {
        var numbers: Set<Int> = []
        for name in source.tensorNames where name.hasPrefix(list + ".") {
            if let number = Int(name.dropFirst(list.count + 1).prefix { $0 != "." }) { numbers.insert(number) }
        }
        if let gap = (0..<numbers.count).first(where: { !numbers.contains($0) }) {
            throw .malformed(
                path: source.location, reason: "block \(list).\(gap) is missing, though there are later ones")
        }
        return numbers.count
    }

    private static func matrix(_ name: String, in source: any TensorSource) throws(CheckpointError) -> (Int, Int) {
        let shape = try source.tensor(name).shape
        guard shape.rank == 2, shape[0] > 0, shape[1] > 0 else {
            throw .malformedTensor(path: source.location, name: name, reason: "\(shape) is no matrix")
        }
        return (shape[0], shape[1])
    }
}
