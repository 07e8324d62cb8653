import Foundation
import NibbleCheckpoints
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleModels

/// What is particular to T5; what it shares with CLIP is in `TextEncoderTests`.
@Suite struct T5EncoderTests {
    static let fixture = Goldens.repository.appending(path: "Tests/Fixtures/encoders/t5")

    static func config(_ json: String) throws -> T5Config {
        try JSONDecoder().decode(T5Config.self, from: Data(json.utf8))
    }

    @Test func `odd heads and buckets, the erf formula and float16 give numpy's states`() throws {
        let expected = try GoldenTensors(Self.fixture.appending(path: "expected.safetensors"))
        let ids = try expected.integers("ids").map { Int32($0) }
        let states = try TextEncoder.t5.open(Self.fixture).encode(ids, .keep, Compute(precision: .f32)) { _ in }
        // f32 against f64: 2^-24 for each of some hundred roundings of values of about 1.
        #expect(maximumDifference(states[0], try expected.floats("hidden")) <= 1e-5)
    }

    /// Sums of 8 terms may be taken in another order for another number of rows: 2^-24 for each of some hundred roundings.
    @Test(arguments: [[5, 9, 9, 3, 1, 0, 0, 0, 0, 0, 0], [7, 7, 7], [1, 2, 3], [4]] as [[Int32]])
    func `rows of padding, projected once, are what each is alone`(_ ids: [Int32]) throws {
        let config = try Self.config(String(contentsOf: Self.fixture.appending(path: "config.json"), encoding: .utf8))
        let model = try T5Encoder(config, weights: WeightReader(try Checkpoint.open(Self.fixture.path)))
        let compute = Compute(precision: .f32)
        let states = try [true, false].map { isProjectedOnce in
            var passage = try model.begin(ids, on: compute) { Tensor(zeros: $0, .float32) }
            if !isProjectedOnce {
                passage = T5Passage(stream: passage.stream, bias: passage.bias, distinctRows: ids.count)
            }
            for block in 0..<model.blockCount { model.apply(block, to: passage, on: compute) }
            return model.finish(passage, on: compute).floats()
        }
        #expect(maximumDifference(states[0], states[1]) <= 1e-5)
    }

    @Test func `distances fall into numpy's buckets`() throws {
        let expected = try GoldenTensors(Self.fixture.appending(path: "expected.safetensors"))
        let buckets = try expected.integers("distances").map {
            T5RelativePositionBias.bucket(distance: $0, buckets: 12, maximumDistance: 20)
        }
        #expect(buckets == (try expected.integers("buckets")))
    }

    /// With FLUX.1's 32 buckets up to 128 the ranges begin at 8 · 2^(i/2), each second at a whole number: there the
    /// logarithm must not round down.
    @Test func `ranges begin at whole powers of two`() {
        for (distance, bucket) in [(0, 0), (7, 7), (8, 8), (11, 8), (12, 9), (15, 9), (16, 10), (22, 10), (23, 11)]
            + [(31, 11), (32, 12), (45, 12), (46, 13), (63, 13), (64, 14), (90, 14), (91, 15), (128, 15), (511, 15)]
        {
            #expect(T5RelativePositionBias.bucket(distance: -distance, buckets: 32, maximumDistance: 128) == bucket)
            guard distance > 0 else { continue }
            #expect(T5RelativePositionBias.bucket(distance: distance, buckets: 32, maximumDistance: 128) == 16 + bucket)
        }
    }

    @Test(
        .enabled(if: !Goldens.realConfigurations.isEmpty, "shared/data/flux-configs is not here"),
        arguments: Goldens.realConfigurations)
    func `FLUX.1's own index lists exactly the tensors that are asked for`(_ folder: URL) throws {
        let folder = folder.appending(path: "text_encoder_2")
        let index = try WeightIndex(folder.appending(path: "model.safetensors.index.json"))
        let config = try JSONDecoder().decode(
            T5Config.self, from: Data(contentsOf: folder.appending(path: "config.json")))
        #expect(config.maximumDistance == 128 && config.activation == .geluTanh)
        let zeros = ZeroWeights(names: index.names, dtype: .bfloat16)
        let model = try T5Encoder(config, weights: WeightReader(zeros))
        #expect(Set(zeros.requests.keys) == index.names)
        // The index counts bytes of bf16, so that the shapes are right as a whole.
        #expect(zeros.requests.values.reduce(0) { $0 + 2 * $1.elementCount } == index.totalSize)
        #expect(model.blockCount == 24)
    }

    @Test func `missing keys have transformers' defaults`() throws {
        let config = try Self.config(#"{"feed_forward_proj": "gated-gelu"}"#)
        #expect(config.vocabularySize == 32_128 && config.hidden == 512 && config.headDim == 64 && config.heads == 8)
        #expect(config.layers == 6 && config.feedForward == 2048 && config.epsilon == 1e-6)
        #expect(config.buckets == 32 && config.maximumDistance == 128 && config.activation == .geluTanh)
    }

    @Test func `keys of their own win over feed_forward_proj`() throws {
        #expect(try Self.config(#"{"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"}"#).activation == .gelu)
        #expect(try Self.config(#"{"is_gated_act": true, "dense_act_fn": "gelu_new"}"#).activation == .geluTanh)
        #expect(try Self.config(#"{"feed_forward_proj": "gated-quick_gelu"}"#).activation == .quickGelu)
    }

    @Test(arguments: [
        ("vocab_size", "0"), ("d_model", "-4"), ("d_ff", "1048577"), ("num_heads", "9223372036854775807"),
        ("d_kv", "1e30"), ("d_kv", "0.5"), ("num_layers", "\"6\""), ("relative_attention_num_buckets", "3"),
        ("relative_attention_max_distance", "8"), ("layer_norm_epsilon", "0"), ("layer_norm_epsilon", "-1"),
        ("layer_norm_epsilon", "1e-300"),
        ("dense_act_fn", "\"relu\""), ("is_gated_act", "false"), ("feed_forward_proj", "\"relu\""),
        ("feed_forward_proj", "\"gated-silu\""), ("feed_forward_proj", "\"gated-\""),
    ])
    func `values that make no sense are refused by name`(_ key: String, _ value: String) throws {
        let others = key == "feed_forward_proj" ? "" : #", "feed_forward_proj": "gated-gelu""#
        let error = #expect(throws: DecodingError.self) { try Self.config("{\"\(key)\": \(value)\(others)}") }
        #expect(String(describing: try #require(error)).contains(key))
    }

    @Test func `a tensor that is missing, misshapen or unknown is named`() throws {
        let json = #"{"feed_forward_proj": "gated-gelu", "num_layers": 1, "d_model": 8, "d_ff": 8, "vocab_size": 4}"#
        let config = try Self.config(json)
        let known = ZeroWeights()
        _ = try T5Encoder(config, weights: WeightReader(known))
        let names = Set(known.requests.keys)
        #expect(names.count == 3 + 9)

        let wo = "encoder.block.0.layer.1.DenseReluDense.wo.weight"
        #expect(throws: CheckpointError.missingTensor(path: known.location, name: wo)) {
            try T5Encoder(config, weights: WeightReader(ZeroWeights(names: names.subtracting([wo]))))
        }
        let more = ZeroWeights(names: names.union(["encoder.block.1.layer.0.layer_norm.weight", "decoder.block.0.x"]))
        let unknown = ["encoder.block.1.layer.0.layer_norm.weight"]
        #expect(throws: CheckpointError.unexpectedTensors(path: more.location, names: unknown)) {
            try T5Encoder(config, weights: WeightReader(more))
        }
        let wider = try Self.config(json.replacing("\"vocab_size\": 4", with: "\"vocab_size\": 5"))
        let fixture = WeightReader(try Checkpoint.open(Self.fixture.path))
        #expect {
            try T5Encoder(wider, weights: fixture)
        } throws: { error in
            guard case .wrongShape(_, let name, let found, let expected)? = error as? CheckpointError else {
                return false
            }
            return name == "encoder.embed_tokens.weight" && found == [30, 24] && expected == [5, 8]
        }
    }
}
