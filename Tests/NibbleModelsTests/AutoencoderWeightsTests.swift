import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// Configurations, and which weights they ask for.
@Suite struct AutoencoderWeightsTests {
    static func config(_ json: String) throws -> AutoencoderConfig {
        try JSONDecoder().decode(AutoencoderConfig.self, from: Data(json.utf8))
    }

    static func model(_ config: AutoencoderConfig, _ source: any TensorSource) throws -> AutoencoderKL {
        let weights = WeightReader(source)
        let model = try AutoencoderKL(config, weights: weights)
        try weights.checkNothingIsLeftOver()
        return model
    }

    /// The names of a configuration like FLUX.1's, written down from diffusers' modules: `[name: shape]`.
    static func fluxTensors() -> [String: Shape] {
        var tensors: [String: Shape] = [:]
        func add(_ name: String, _ shape: Shape) {
            tensors[name + ".weight"] = shape
            tensors[name + ".bias"] = [shape[0]]
        }
        func resnet(_ name: String, _ input: Int, _ output: Int) {
            add("\(name).norm1", [input])
            add("\(name).conv1", [output, input, 3, 3])
            add("\(name).norm2", [output])
            add("\(name).conv2", [output, output, 3, 3])
            if input != output { add("\(name).conv_shortcut", [output, input, 1, 1]) }
        }
        for part in ["encoder", "decoder"] {
            for index in 0...1 { resnet("\(part).mid_block.resnets.\(index)", 512, 512) }
            add("\(part).mid_block.attentions.0.group_norm", [512])
            for name in ["to_q", "to_k", "to_v", "to_out.0"] {
                add("\(part).mid_block.attentions.0.\(name)", [512, 512])
            }
        }
        add("encoder.conv_in", [128, 3, 3, 3])
        for (block, (input, output)) in [(128, 128), (128, 256), (256, 512), (512, 512)].enumerated() {
            for index in 0...1 {
                resnet("encoder.down_blocks.\(block).resnets.\(index)", index == 0 ? input : output, output)
            }
            if block < 3 { add("encoder.down_blocks.\(block).downsamplers.0.conv", [output, output, 3, 3]) }
        }
        add("encoder.conv_norm_out", [512])
        add("encoder.conv_out", [32, 512, 3, 3])
        add("decoder.conv_in", [512, 16, 3, 3])
        for (block, (input, output)) in [(512, 512), (512, 512), (512, 256), (256, 128)].enumerated() {
            for index in 0...2 {
                resnet("decoder.up_blocks.\(block).resnets.\(index)", index == 0 ? input : output, output)
            }
            if block < 3 { add("decoder.up_blocks.\(block).upsamplers.0.conv", [output, output, 3, 3]) }
        }
        add("decoder.conv_norm_out", [128])
        add("decoder.conv_out", [3, 128, 3, 3])
        return tensors
    }

    /// The real model's file holds 244 tensors and 335,278,732 bytes of f32 (`ae.safetensors` of FLUX.1-schnell).
    @Test func `the list is the real model's`() {
        let tensors = Self.fluxTensors()
        #expect(tensors.count == 244)
        #expect(tensors.values.reduce(0) { $0 + $1.elementCount } == 335_278_732 / 4)
    }

    static let realConfigs = Goldens.roots.flatMap { root in
        ["FLUX.1-dev", "FLUX.1-schnell"].map { root.appending(path: "../data/flux-configs/\($0)/vae/config.json") }
    }.filter { FileManager.default.fileExists(atPath: $0.path) }

    @Test(.enabled(if: !realConfigs.isEmpty, "no real configurations beside the golden data"), arguments: realConfigs)
    func `the real configurations ask for it`(_ file: URL) throws {
        let config = try JSONDecoder().decode(AutoencoderConfig.self, from: Data(contentsOf: file))
        let tensors = Self.fluxTensors()
        let zeros = ZeroWeights(names: Set(tensors.keys))
        _ = try Self.model(config, zeros)
        #expect(zeros.requests == tensors)
        #expect(config.scale == 8 && config.sampleSize == 1024)
    }

    /// Activations of 1024 × 1024 in MiB with two threads, to notice if they grow. A twentieth of room is for
    /// processors without bfloat16, whose threads hold their operands in 32 bits.
    @Test(
        .enabled(if: !realConfigs.isEmpty, "no real configurations beside the golden data"),
        arguments: [
            (Precision.f32, AutoencoderMemory.whole, 2156), (.f32, .tiled(latentRows: 8), 973),
            (.bf16, .whole, 1086), (.bf16, .tiled(latentRows: 8), 496),
        ])
    func `a real picture takes as much memory as documented`(
        _ precision: Precision, _ memory: AutoencoderMemory, _ documented: Int
    ) throws {
        let file = try #require(Self.realConfigs.first)
        let config = try JSONDecoder().decode(AutoencoderConfig.self, from: Data(contentsOf: file))
        let model = try Self.model(config, ZeroWeights(names: Set(Self.fluxTensors().keys)))
        let bytes = model.decodingMemory(
            latentHeight: 128, latentWidth: 128, memory: memory, on: AutoencoderTests.compute(precision))
        #expect(bytes >> 20 <= documented + documented / 20)
    }

    /// Layers that no golden model has, each compared with something equal.
    @Test(arguments: Goldens.fluxModels)
    func `layers that only other models have`(_ folder: URL) throws {
        let file = folder.appending(path: "model/vae")
        let source = try Checkpoint.open(file.path)
        let json = try String(contentsOf: file.appending(path: "config.json"), encoding: .utf8)
        let plain = try Self.model(Self.config(json), source)
        let channels = plain.config.latentChannels
        let compute = AutoencoderTests.compute()
        let latent = AutoencoderTests.noise(channels: channels, height: 3, width: 4)
        let picture = plain.decode(latent, on: compute) {}
        let posterior = plain.encode(picture, on: compute) {}

        // Convolutions of one pixel that double: the decoder's sees half the latent, the encoder's gives twice as much.
        var altered = AlteredSource(source)
        for (name, count) in [("quant_conv", 2 * channels), ("post_quant_conv", channels)] {
            let doubling = (0..<count * count).map { Float($0 / count == $0 % count ? 2 : 0) }
            altered.added["\(name).weight"] = Tensor(doubling, shape: [count, count, 1, 1])
            altered.added["\(name).bias"] = Tensor(zeros: [count], .float32)
        }
        let quantized = try Self.model(
            Self.config(
                json.replacing("\"use_quant_conv\": false", with: "\"use_quant_conv\": true").replacing(
                    "\"use_post_quant_conv\": false", with: "\"use_post_quant_conv\": true")), altered)
        let half = Tensor(latent.floats().map { $0 / 2 }, shape: latent.shape)
        #expect(quantized.decode(half, on: compute) {}.floats() == picture.floats())
        #expect(quantized.encode(picture, on: compute) {}.mean.floats() == posterior.mean.floats().map { 2 * $0 })

        // Old names of the attention's layers.
        altered = AlteredSource(source)
        for (new, old) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
            for part in ["encoder", "decoder"] {
                for kind in ["weight", "bias"] {
                    let path = "\(part).mid_block.attentions.0."
                    altered.added["\(path)\(old).\(kind)"] = try source.tensor("\(path)\(new).\(kind)")
                    altered.removed.insert("\(path)\(new).\(kind)")
                }
            }
        }
        #expect(try Self.model(plain.config, altered).decode(latent, on: compute) {}.floats() == picture.floats())

        // An attention that adds nothing is none.
        altered = AlteredSource(source)
        var without = AlteredSource(source)
        for name in source.tensorNames where name.contains(".attentions.") {
            if name.contains("to_out") {
                altered.added[name] = Tensor(zeros: try source.tensor(name).shape, .float32)
            }
            without.removed.insert(name)
        }
        let silent = try Self.model(plain.config, altered)
        let none = try Self.model(
            Self.config(
                json.replacing("\"mid_block_add_attention\": true", with: "\"mid_block_add_attention\": false")),
            without)
        let found = none.decode(latent, on: compute) {}.floats()
        #expect(found == silent.decode(latent, on: compute) {}.floats())
        #expect(maximumDifference(found, picture.floats()) > 0)
    }

    /// A source with some tensors replaced, added or removed.
    struct AlteredSource: TensorSource {
        private let source: any TensorSource
        var added: [String: Tensor] = [:]
        var removed: Set<String> = []

        init(_ source: any TensorSource) { self.source = source }

        var location: String { source.location }
        var tensorNames: Set<String> { source.tensorNames.union(added.keys).subtracting(removed) }

        func tensor(_ name: String) throws(CheckpointError) -> Tensor {
            guard !removed.contains(name) else { throw .missingTensor(path: location, name: name) }
            return if let tensor = added[name] { tensor } else { try source.tensor(name) }
        }
    }

    @Test func `a missing key has diffusers' default`() throws {
        let config = try Self.config("{}")
        #expect(config.latentChannels == 4 && config.blockOutChannels == [64] && config.layersPerBlock == 1)
        #expect(config.normNumGroups == 32 && config.sampleSize == 32 && config.scalingFactor == 0.18215)
        #expect(
            config.shiftFactor == 0 && config.useQuantConv && config.usePostQuantConv && config.midBlockAddAttention)
        #expect(try Self.config(#"{"shift_factor": null}"#).shiftFactor == 0)
    }

    /// Each names the key, what was found and what was expected.
    @Test(arguments: [
        (#"{"block_out_channels": []}"#, "block_out_channels", "[]"),
        (#"{"block_out_channels": [48]}"#, "block_out_channels", "[48]"),
        (#"{"block_out_channels": [0]}"#, "block_out_channels", "[0]"),
        (#"{"block_out_channels": [9223372036854775776]}"#, "block_out_channels", "9223372036854775776"),
        (#"{"norm_num_groups": 0}"#, "norm_num_groups", "0"),
        (#"{"norm_num_groups": -32}"#, "norm_num_groups", "-32"),
        (#"{"layers_per_block": 0}"#, "layers_per_block", "0"),
        (#"{"layers_per_block": 1000000}"#, "layers_per_block", "1000000"),
        (#"{"latent_channels": 0}"#, "latent_channels", "0"),
        (#"{"in_channels": 4}"#, "in_channels", "4"),
        (#"{"out_channels": 1}"#, "out_channels", "1"),
        (#"{"sample_size": 0}"#, "sample_size", "0"),
        (#"{"scaling_factor": 0}"#, "scaling_factor", "0"),
        (#"{"act_fn": "relu"}"#, "act_fn", "relu"),
        (#"{"up_block_types": ["AttnUpDecoderBlock2D"]}"#, "up_block_types", "AttnUpDecoderBlock2D"),
        (#"{"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"]}"#, "down_block_types", "DownEncoder"),
    ])
    func `a value that makes no sense is refused`(_ json: String, _ key: String, _ found: String) {
        #expect(
            performing: { try Self.config(json) },
            throws: { error in
                let text = String(describing: error)
                return text.contains(key) && text.contains(found) && text.contains("expected")
            })
    }
}
