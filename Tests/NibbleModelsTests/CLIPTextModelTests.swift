import Foundation
import NibbleCheckpoints
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleModels

/// What is particular to CLIP; what it shares with T5 is in `TextEncoderTests`.
@Suite struct CLIPTextModelTests {
    static let fixture = Goldens.repository.appending(path: "Tests/Fixtures/encoders/clip")

    static func config(_ json: String) throws -> CLIPTextConfig {
        try JSONDecoder().decode(CLIPTextConfig.self, from: Data(json.utf8))
    }

    @Test func `the erf formula, a configured end token and leftovers give numpy's states`() throws {
        let expected = try GoldenTensors(Self.fixture.appending(path: "expected.safetensors"))
        let ids = try expected.integers("ids").map { Int32($0) }
        let states = try TextEncoder.clip.open(Self.fixture).encode(ids, .keep, Compute(precision: .f32)) { _ in }
        // f32 against f64: 2^-24 for each of some hundred roundings of values of about 1.
        #expect(maximumDifference(states[0], try expected.floats("last")) <= 1e-5)
        #expect(maximumDifference(states[1], try expected.floats("pooled")) <= 1e-5)
        #expect(states[1].shape == [1, 24])
    }

    /// transformers: `input_ids.argmax()` where the configuration says 2, else `(input_ids == eos).argmax()`; torch's
    /// argmax gives the first of equal values.
    @Test(arguments: [
        ([5, 9, 3, 9], 2, 1), ([5, 9, 3, 9], 3, 2), ([5, 9, 3, 9], 9, 1), ([5, 9, 3, 9], 7, 0), ([5, 2, 9], 2, 2),
        ([5, 9], -1, 0), ([5, 9], 1 << 40, 0),
    ])
    func `the pooled state is that of the end token`(_ ids: [Int32], _ endToken: Int, _ position: Int) {
        #expect(CLIPTextModel.pooledPosition(ids, endToken: endToken) == position)
    }

    @Test func `more tokens than positions are refused`() throws {
        let model = try TextEncoder.clip.open(Self.fixture)
        let compute = Compute(precision: .f32)
        #expect(try model.encode([Int32](repeating: 3, count: 16), .keep, compute) { _ in }[0].rows == 16)
        #expect(throws: ModelError.tooManyTokens(count: 17, maximum: 16)) {
            try model.encode([Int32](repeating: 3, count: 17), .keep, compute) { _ in }
        }
    }

    /// The parameters of transformers' `CLIPTextTransformer`: embeddings, `CLIPEncoderLayer`s, final norm.
    static func names(layers: Int) -> Set<String> {
        let layer =
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1"]
            + ["mlp.fc2", "layer_norm1", "layer_norm2"]
        let modules = (0..<layers).flatMap { index in layer.map { "encoder.layers.\(index).\($0)" } }
        let parameters = (modules + ["final_layer_norm"]).flatMap { ["\($0).weight", "\($0).bias"] }
        return Set(parameters + ["embeddings.token_embedding.weight", "embeddings.position_embedding.weight"])
    }

    @Test(
        .enabled(if: !Goldens.realConfigurations.isEmpty, "shared/data/flux-configs is not here"),
        arguments: Goldens.realConfigurations, ["text_model.", ""])
    func `FLUX.1's own configuration asks for exactly CLIP's tensors`(_ folder: URL, _ prefix: String) throws {
        let config = try JSONDecoder().decode(
            CLIPTextConfig.self, from: Data(contentsOf: folder.appending(path: "text_encoder/config.json")))
        let names = Set(Self.names(layers: 12).map { prefix + $0 })
        let zeros = ZeroWeights(names: names.union([prefix + "embeddings.position_ids", "text_projection.weight"]))
        let model = try CLIPTextModel(config, weights: WeightReader(zeros))
        #expect(Set(zeros.requests.keys) == names)
        // CLIP ViT-L/14's text model has 123,060,480 parameters.
        #expect(zeros.requests.values.reduce(0) { $0 + $1.elementCount } == 123_060_480)
        #expect(model.blockCount == 12)
    }

    @Test func `missing keys have transformers' defaults`() throws {
        let config = try Self.config("{}")
        #expect(config.vocabularySize == 49_408 && config.hidden == 512 && config.mlp == 2048 && config.layers == 12)
        #expect(config.heads == 8 && config.positions == 77 && config.activation == .quickGelu)
        #expect(config.epsilon == 1e-5 && config.endToken == 49_407)
        #expect(try Self.config(#"{"hidden_act": "gelu"}"#).activation == .gelu)
        #expect(try Self.config(#"{"hidden_act": "gelu_new"}"#).activation == .geluTanh)
    }

    @Test(arguments: [
        ("vocab_size", "0"), ("hidden_size", "-1"), ("intermediate_size", "1048577"), ("num_hidden_layers", "0"),
        ("num_attention_heads", "7"), ("max_position_embeddings", "1e30"), ("hidden_act", "\"relu\""),
        ("layer_norm_eps", "1e300"), ("eos_token_id", "[1, 2]"),
    ])
    func `values that make no sense are refused by name`(_ key: String, _ value: String) throws {
        let error = #expect(throws: DecodingError.self) { try Self.config("{\"\(key)\": \(value)}") }
        #expect(String(describing: try #require(error)).contains(key))
    }

    @Test func `a tensor that is missing or unknown is named`() throws {
        let config = try Self.config(#"{"num_hidden_layers": 1, "hidden_size": 8, "vocab_size": 4}"#)
        let names = Set(Self.names(layers: 1).map { "text_model." + $0 })
        for name in names {
            let zeros = ZeroWeights(names: names.subtracting([name]))
            #expect(throws: CheckpointError.missingTensor(path: zeros.location, name: name)) {
                try CLIPTextModel(config, weights: WeightReader(zeros))
            }
        }
        let more = ZeroWeights(names: names.union(["vision_model.x"]))
        #expect(throws: CheckpointError.unexpectedTensors(path: more.location, names: ["vision_model.x"])) {
            try CLIPTextModel(config, weights: WeightReader(more))
        }
    }
}
