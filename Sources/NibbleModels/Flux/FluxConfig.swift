internal import Foundation
public import NibbleCheckpoints

/// The configuration of diffusers' `FluxTransformer2DModel`, from `transformer/config.json`.
public struct FluxConfig: Sendable, Equatable {
    /// Channels of a packed latent token: 16 latent channels of a patch of 2 × 2.
    public var inChannels = 64
    /// Channels of the prediction; the input's where the file says null.
    public var outChannels = 64
    /// Number of blocks with separate weights for text and image.
    public var doubleBlocks = 19
    /// Number of blocks on the joined sequence.
    public var singleBlocks = 38
    /// Width of a head.
    public var headDim = 128
    /// Number of heads.
    public var heads = 24
    /// Width of the T5 states.
    public var jointAttentionDim = 4096
    /// Width of CLIP's pooled state.
    public var pooledProjectionDim = 768
    /// Whether guidance is an input (FLUX.1-dev) or not (schnell).
    public var guidanceEmbeds = false
    /// How a head's channels are shared out among the three axes of a token's place.
    public var axesDimsRope = [16, 56, 56]

    /// Width of a token: heads × headDim.
    public var hidden: Int { heads * headDim }
    /// Width of the MLP: FLUX's ratio of 4.
    public var mlp: Int { 4 * hidden }

    /// FLUX.1-dev's, but without guidance.
    public init() {}

    /// What the tensors of a single file tell of themselves.
    ///
    /// - Parameters:
    ///   - dimensions: the sizes that the tensors' shapes give away.
    ///   - axes: how a head's channels are shared out among the axes, which leaves no trace in the tensors.
    public init(_ dimensions: FluxDimensions, axes: [Int]) {
        inChannels = dimensions.inChannels
        outChannels = dimensions.inChannels
        doubleBlocks = dimensions.numLayers
        singleBlocks = dimensions.numSingleLayers
        headDim = dimensions.headDim
        heads = dimensions.numAttentionHeads
        jointAttentionDim = dimensions.jointAttentionDim
        pooledProjectionDim = dimensions.pooledProjectionDim
        guidanceEmbeds = dimensions.guidanceEmbeds
        axesDimsRope = axes
    }
}

extension FluxConfig: Decodable {
    private enum CodingKeys: String, CodingKey {
        case patchSize = "patch_size"
        case inChannels = "in_channels"
        case outChannels = "out_channels"
        case doubleBlocks = "num_layers"
        case singleBlocks = "num_single_layers"
        case headDim = "attention_head_dim"
        case heads = "num_attention_heads"
        case jointAttentionDim = "joint_attention_dim"
        case pooledProjectionDim = "pooled_projection_dim"
        case guidanceEmbeds = "guidance_embeds"
        case axesDimsRope = "axes_dims_rope"
    }

    /// Reads the configuration; a missing key has diffusers' default.
    public init(from decoder: any Decoder) throws {
        self.init()
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func size(_ key: CodingKeys, _ standard: Int, least: Int = 1) throws -> Int {
            try values.size(key, standard: standard, in: least...65_536)
        }
        guard try size(.patchSize, 1) == 1 else {
            throw values.refusal(of: .patchSize, found: try size(.patchSize, 1), expected: "1, as in FLUX.1")
        }
        inChannels = try size(.inChannels, inChannels)
        outChannels = try size(.outChannels, inChannels)
        doubleBlocks = try size(.doubleBlocks, doubleBlocks, least: 0)
        singleBlocks = try size(.singleBlocks, singleBlocks, least: 0)
        headDim = try size(.headDim, headDim)
        heads = try size(.heads, heads)
        // The width of a token is a size too: matrices of its square must not overflow.
        guard hidden <= 65_536 else {
            throw values.refusal(of: .heads, found: heads, expected: "at most \(65_536 / headDim) heads of \(headDim)")
        }
        jointAttentionDim = try size(.jointAttentionDim, jointAttentionDim)
        pooledProjectionDim = try size(.pooledProjectionDim, pooledProjectionDim)
        guidanceEmbeds = try values.decodeIfPresent(Bool.self, forKey: .guidanceEmbeds) ?? false
        axesDimsRope = try values.decodeIfPresent([Int].self, forKey: .axesDimsRope) ?? axesDimsRope
        let fits = axesDimsRope.allSatisfy { $0 > 0 && $0 <= headDim && $0 % 2 == 0 }
        guard axesDimsRope.count == 3, fits, axesDimsRope.reduce(0, +) == headDim else {
            throw values.refusal(
                of: .axesDimsRope, found: axesDimsRope,
                expected: "three even numbers that add up to attention_head_dim \(headDim)")
        }
    }
}

extension FluxConfig: Encodable {
    private struct ClassName: Encodable {
        let className = "FluxTransformer2DModel"
        enum CodingKeys: String, CodingKey { case className = "_class_name" }
    }

    /// Writes all keys, as diffusers does.
    public func encode(to encoder: any Encoder) throws {
        try ClassName().encode(to: encoder)
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(1, forKey: .patchSize)
        try values.encode(inChannels, forKey: .inChannels)
        try values.encode(outChannels, forKey: .outChannels)
        try values.encode(doubleBlocks, forKey: .doubleBlocks)
        try values.encode(singleBlocks, forKey: .singleBlocks)
        try values.encode(headDim, forKey: .headDim)
        try values.encode(heads, forKey: .heads)
        try values.encode(jointAttentionDim, forKey: .jointAttentionDim)
        try values.encode(pooledProjectionDim, forKey: .pooledProjectionDim)
        try values.encode(guidanceEmbeds, forKey: .guidanceEmbeds)
        try values.encode(axesDimsRope, forKey: .axesDimsRope)
    }

    /// The text of a `config.json`.
    public var json: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }
}
