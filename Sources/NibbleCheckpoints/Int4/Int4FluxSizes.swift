/// The sizes of a FLUX.1 that its 4-bit file's configuration states (diffusers' `FluxTransformer2DModel`).
struct Int4FluxSizes: Decodable, Equatable {
    var doubleBlocks = 19
    var singleBlocks = 38
    var headDim = 128
    var heads = 24
    var inChannels = 64
    var outChannels = 64
    var jointAttentionDim = 4096
    var pooledProjectionDim = 768
    var guidanceEmbeds = false

    /// Channels of the residual stream.
    var hidden: Int { headDim * heads }

    private enum CodingKeys: String, CodingKey {
        case doubleBlocks = "num_layers"
        case singleBlocks = "num_single_layers"
        case headDim = "attention_head_dim"
        case heads = "num_attention_heads"
        case inChannels = "in_channels"
        case outChannels = "out_channels"
        case jointAttentionDim = "joint_attention_dim"
        case pooledProjectionDim = "pooled_projection_dim"
        case guidanceEmbeds = "guidance_embeds"
    }

    /// FLUX.1-dev's, but without guidance.
    init() {}

    /// A missing key has diffusers' default.
    init(from decoder: any Decoder) throws {
        self.init()
        let values = try decoder.container(keyedBy: CodingKeys.self)
        // Far above any model, and low enough that no product of two overflows and no list of names fills the memory.
        func size(_ key: CodingKeys, _ standard: Int, in range: ClosedRange<Int> = 1...65_536) throws -> Int {
            try values.size(key, standard: standard, in: range)
        }
        doubleBlocks = try size(.doubleBlocks, doubleBlocks, in: 0...1024)
        singleBlocks = try size(.singleBlocks, singleBlocks, in: 0...1024)
        headDim = try size(.headDim, headDim, in: 1...4096)
        heads = try size(.heads, heads, in: 1...4096)
        inChannels = try size(.inChannels, inChannels)
        outChannels = try size(.outChannels, inChannels)
        jointAttentionDim = try size(.jointAttentionDim, jointAttentionDim)
        pooledProjectionDim = try size(.pooledProjectionDim, pooledProjectionDim)
        guidanceEmbeds = try values.decodeIfPresent(Bool.self, forKey: .guidanceEmbeds) ?? false
    }
}
