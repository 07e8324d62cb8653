internal import NibbleCheckpoints
public import NibbleTensors

/// The configuration of transformers' `CLIPTextModel`, from `text_encoder/config.json`.
public struct CLIPTextConfig: Sendable, Equatable {
    /// Rows of the embedding.
    public let vocabularySize: Int
    /// Width of a token.
    public let hidden: Int
    /// Width of the MLP.
    public let mlp: Int
    /// Number of layers.
    public let layers: Int
    /// Number of heads; they share the width of a token.
    public let heads: Int
    /// The most tokens of a text.
    public let positions: Int
    /// Of the MLP.
    public let activation: Activation
    /// Added to the variance in norms.
    public let epsilon: Float
    /// The token whose state stands for the whole text, see `CLIPTextModel.pooledPosition`.
    public let endToken: Int
}

extension CLIPTextConfig: Decodable {
    private enum CodingKeys: String, CodingKey {
        case vocabularySize = "vocab_size"
        case hidden = "hidden_size"
        case mlp = "intermediate_size"
        case layers = "num_hidden_layers"
        case heads = "num_attention_heads"
        case positions = "max_position_embeddings"
        case activation = "hidden_act"
        case epsilon = "layer_norm_eps"
        case endToken = "eos_token_id"
    }

    /// Reads the configuration; a missing key has transformers' default.
    ///
    /// - Parameter decoder: of the JSON object.
    /// - Throws: `DecodingError`, naming the key, what was found and what was expected.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        vocabularySize = try values.size(.vocabularySize, standard: 49_408)
        hidden = try values.size(.hidden, standard: 512)
        mlp = try values.size(.mlp, standard: 2048)
        layers = try values.size(.layers, standard: 12)
        heads = try values.size(.heads, standard: 8)
        positions = try values.size(.positions, standard: 77)
        activation = try values.activation(
            named: values.decodeIfPresent(String.self, forKey: .activation) ?? "quick_gelu", from: .activation)
        epsilon = try values.epsilon(.epsilon, standard: 1e-5)
        // Not bounded by the vocabulary: old files say 2 for "the largest id", and a wrong id is merely never found.
        endToken = try values.integer(.endToken, standard: 49_407)
        guard hidden.isMultiple(of: heads) else {
            throw values.refusal(of: .heads, found: heads, expected: "a divisor of hidden_size \(hidden)")
        }
    }
}
