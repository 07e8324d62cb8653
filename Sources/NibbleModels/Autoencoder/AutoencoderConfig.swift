internal import NibbleCheckpoints

/// The configuration of diffusers' `AutoencoderKL`, from `vae/config.json`.
public struct AutoencoderConfig: Sendable, Equatable {
    /// Channels of a picture, in and out: red, green, blue.
    public static let pictureChannels = 3

    /// Channels of a latent.
    public let latentChannels: Int
    /// Channels at each size, the full one first; every further one is half as high and wide.
    public let blockOutChannels: [Int]
    /// Resnet blocks at each size of the encoder; the decoder has one more.
    public let layersPerBlock: Int
    /// Groups of every group normalization.
    public let normNumGroups: Int
    /// Height and width of the pictures that it was trained on.
    public let sampleSize: Int
    /// What a latent is multiplied with for the diffusion model.
    public let scalingFactor: Float
    /// What is subtracted from a latent before that.
    public let shiftFactor: Float
    /// Whether a convolution of one pixel follows the encoder.
    public let useQuantConv: Bool
    /// Whether a convolution of one pixel precedes the decoder.
    public let usePostQuantConv: Bool
    /// Whether the middle blocks have attention.
    public let midBlockAddAttention: Bool

    /// Pixels of the picture for each one of a latent, along an axis.
    public var scale: Int { 1 << (blockOutChannels.count - 1) }
}

extension AutoencoderConfig: Decodable {
    private enum CodingKeys: String, CodingKey {
        case inChannels = "in_channels"
        case outChannels = "out_channels"
        case latentChannels = "latent_channels"
        case blockOutChannels = "block_out_channels"
        case downBlockTypes = "down_block_types"
        case upBlockTypes = "up_block_types"
        case layersPerBlock = "layers_per_block"
        case normNumGroups = "norm_num_groups"
        case activation = "act_fn"
        case sampleSize = "sample_size"
        case scalingFactor = "scaling_factor"
        case shiftFactor = "shift_factor"
        case useQuantConv = "use_quant_conv"
        case usePostQuantConv = "use_post_quant_conv"
        case midBlockAddAttention = "mid_block_add_attention"
    }

    /// Far more than any autoencoder has, few enough that sizes derived from it do not overflow.
    private static let mostChannels = 1 << 14
    /// 2⁹ pixels for each latent's.
    private static let mostBlocks = 10

    /// Reads the configuration; a missing key has diffusers' default.
    ///
    /// - Parameter decoder: of the JSON object.
    /// - Throws: `DecodingError`, naming the key, what was found and what was expected.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        let channels = 1...Self.mostChannels
        for key in [CodingKeys.inChannels, .outChannels] {
            let found = try values.size(key, standard: Self.pictureChannels, in: channels)
            guard found == Self.pictureChannels else {
                throw values.refusal(of: key, found: found, expected: "3: red, green, blue")
            }
        }
        latentChannels = try values.size(.latentChannels, standard: 4, in: channels)
        layersPerBlock = try values.size(.layersPerBlock, standard: 1, in: 1...64)
        normNumGroups = try values.size(.normNumGroups, standard: 32, in: channels)
        sampleSize = try values.size(.sampleSize, standard: 32)
        useQuantConv = try values.decodeIfPresent(Bool.self, forKey: .useQuantConv) ?? true
        usePostQuantConv = try values.decodeIfPresent(Bool.self, forKey: .usePostQuantConv) ?? true
        midBlockAddAttention = try values.decodeIfPresent(Bool.self, forKey: .midBlockAddAttention) ?? true

        let blocks = try values.decodeIfPresent([Int].self, forKey: .blockOutChannels) ?? [64]
        let groups = normNumGroups
        guard (1...Self.mostBlocks).contains(blocks.count),
            blocks.allSatisfy({ channels.contains($0) && $0.isMultiple(of: groups) })
        else {
            let expected = "1 to \(Self.mostBlocks) multiples of norm_num_groups \(groups) up to \(Self.mostChannels)"
            throw values.refusal(of: .blockOutChannels, found: blocks, expected: expected)
        }
        blockOutChannels = blocks

        scalingFactor = try values.decodeIfPresent(Float.self, forKey: .scalingFactor) ?? 0.18215
        guard scalingFactor.isNormal else {
            throw values.refusal(of: .scalingFactor, found: scalingFactor, expected: "a finite number other than 0")
        }
        shiftFactor = try values.decodeIfPresent(Float.self, forKey: .shiftFactor) ?? 0
        guard shiftFactor.isFinite else {
            throw values.refusal(of: .shiftFactor, found: shiftFactor, expected: "a finite number")
        }
        try Self.checkKinds(values, blocks: blocks.count)
    }

    private static func checkKinds(_ values: KeyedDecodingContainer<CodingKeys>, blocks: Int) throws {
        for (key, kind) in [
            (CodingKeys.downBlockTypes, "DownEncoderBlock2D"), (.upBlockTypes, "UpDecoderBlock2D"),
        ] {
            let found = try values.decodeIfPresent([String].self, forKey: key) ?? [kind]
            guard found == Array(repeating: kind, count: blocks) else {
                throw values.refusal(of: key, found: found, expected: "\(blocks) times \(kind)")
            }
        }
        let activation = try values.decodeIfPresent(String.self, forKey: .activation) ?? "silu"
        guard ["silu", "swish"].contains(activation) else {
            throw values.refusal(of: .activation, found: activation, expected: "silu or swish")
        }
    }
}
