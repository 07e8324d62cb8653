internal import Foundation
public import NibbleCheckpoints
public import NibbleTensors

/// The configuration of transformers' `T5EncoderModel`, from `text_encoder_2/config.json`: T5 1.1, with a gated
/// feed-forward layer.
public struct T5Config: Sendable, Equatable {
    /// Rows of the embedding; more than the tokenizer has tokens.
    public let vocabularySize: Int
    /// Width of a token.
    public let hidden: Int
    /// Width of a head; heads × headDim may differ from the width of a token.
    public let headDim: Int
    /// Number of heads.
    public let heads: Int
    /// Number of blocks.
    public let layers: Int
    /// Width of the feed-forward layer.
    public let feedForward: Int
    /// Kinds of distances between tokens, half of them for keys behind the query, half for those before it.
    public let buckets: Int
    /// Distances from here on share the last bucket.
    public let maximumDistance: Int
    /// Added to the mean square in norms.
    public let epsilon: Float
    /// Of the gate.
    public let activation: Activation

    /// Width of all heads together.
    public var attentionWidth: Int { heads * headDim }
}

extension T5Config: Decodable {
    private enum CodingKeys: String, CodingKey {
        case vocabularySize = "vocab_size"
        case hidden = "d_model"
        case headDim = "d_kv"
        case heads = "num_heads"
        case layers = "num_layers"
        case feedForward = "d_ff"
        case buckets = "relative_attention_num_buckets"
        case maximumDistance = "relative_attention_max_distance"
        case epsilon = "layer_norm_epsilon"
        case feedForwardProjection = "feed_forward_proj"
        case isGated = "is_gated_act"
        case activation = "dense_act_fn"
    }

    /// Reads the configuration; a missing key has transformers' default.
    ///
    /// - Parameter decoder: of the JSON object.
    /// - Throws: `DecodingError`, naming the key, what was found and what was expected.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        vocabularySize = try values.size(.vocabularySize, standard: 32_128)
        hidden = try values.size(.hidden, standard: 512)
        headDim = try values.size(.headDim, standard: 64)
        heads = try values.size(.heads, standard: 8)
        layers = try values.size(.layers, standard: 6)
        feedForward = try values.size(.feedForward, standard: 2048)
        // At least one exact and one logarithmic bucket for each direction.
        buckets = try values.size(.buckets, standard: 32, in: 4...1 << 20)
        maximumDistance = try values.size(
            .maximumDistance, standard: max(128, buckets / 4 + 1), in: buckets / 4 + 1...1 << 20)
        epsilon = try values.epsilon(.epsilon, standard: 1e-6)
        activation = try Self.gatedActivation(values)
    }

    /// transformers derives both from `feed_forward_proj`, but keys of their own win; FLUX.1's file has only these.
    private static func gatedActivation(_ values: KeyedDecodingContainer<CodingKeys>) throws -> Activation {
        let projection = try values.decodeIfPresent(String.self, forKey: .feedForwardProjection) ?? "relu"
        let isGated = try values.decodeIfPresent(Bool.self, forKey: .isGated) ?? projection.hasPrefix("gated-")
        guard isGated else {
            let key: CodingKeys = values.contains(.isGated) ? .isGated : .feedForwardProjection
            throw values.refusal(
                of: key, found: key == .isGated ? "false" : projection,
                expected: "a gated feed-forward layer, as in T5 1.1 (\"gated-gelu\")")
        }
        if let name = try values.decodeIfPresent(String.self, forKey: .activation) {
            return try values.activation(named: name, from: .activation)
        }
        // Here "gelu" means the tanh formula, for T5 1.1 was trained with it.
        if projection == "gated-gelu" { return .geluTanh }
        return try values.activation(named: String(projection.dropFirst("gated-".count)), from: .feedForwardProjection)
    }
}

extension T5Config {
    /// Reads the text of a `config.json`.
    ///
    /// - Parameters:
    ///   - json: the text.
    ///   - path: where it comes from, for errors.
    /// - Throws: `CheckpointError.wrongConfiguration` or `.malformed`.
    public init(json: String, path: String) throws(CheckpointError) {
        self = try decodeConfiguration(Data(json.utf8), path: path, as: T5Config.self)
    }
}
