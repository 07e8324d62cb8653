import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Files in the original names against the tensors in diffusers' names that they were made of. The fusing is done here, on
/// bytes, layer by layer as diffusers' own conversion script undoes it; it knows nothing of the table under test.
@Suite struct OriginalFluxCheckpointTests {
    struct Sizes {
        var double = 2
        var single = 3
        var hidden = 8
        var head = 4
        var input = 12
        var joint = 6
        var pooled = 5
        var guidance = true
    }

    struct Raw: Equatable {
        var shape: [Int]
        var bytes: [UInt8]

        static func joined(_ parts: [Raw]) -> Raw {
            Raw(
                shape: [parts.reduce(0) { $0 + $1.shape[0] }] + parts[0].shape.dropFirst(),
                bytes: parts.flatMap(\.bytes))
        }
    }

    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// Random bf16 tensors under diffusers' names.
    private static func diffusers(_ sizes: Sizes) -> [String: Raw] {
        var generator = TestGenerator(seed: 3)
        var tensors: [String: Raw] = [:]
        func add(_ name: String, _ shape: [Int]) {
            let bytes = (0..<2 * shape.reduce(1, *)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            tensors[name] = Raw(shape: shape, bytes: bytes)
        }
        func linear(_ name: String, _ rows: Int, _ columns: Int) {
            add("\(name).weight", [rows, columns])
            add("\(name).bias", [rows])
        }
        let (hidden, mlp) = (sizes.hidden, 4 * sizes.hidden)
        linear("x_embedder", hidden, sizes.input)
        linear("context_embedder", hidden, sizes.joint)
        for (name, width, isThere) in [
            ("timestep", 256, true), ("text", sizes.pooled, true), ("guidance", 256, sizes.guidance),
        ] where isThere {
            linear("time_text_embed.\(name)_embedder.linear_1", hidden, width)
            linear("time_text_embed.\(name)_embedder.linear_2", hidden, hidden)
        }
        for block in (0..<sizes.double).map({ "transformer_blocks.\($0)" }) {
            for name in ["norm1.linear", "norm1_context.linear"] { linear("\(block).\(name)", 6 * hidden, hidden) }
            for name in [
                "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
            ] { linear("\(block).attn.\(name)", hidden, hidden) }
            for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
                add("\(block).attn.\(name).weight", [sizes.head])
            }
            for name in ["ff", "ff_context"] {
                linear("\(block).\(name).net.0.proj", mlp, hidden)
                linear("\(block).\(name).net.2", hidden, mlp)
            }
        }
        for block in (0..<sizes.single).map({ "single_transformer_blocks.\($0)" }) {
            linear("\(block).norm.linear", 3 * hidden, hidden)
            for name in ["to_q", "to_k", "to_v"] { linear("\(block).attn.\(name)", hidden, hidden) }
            for name in ["norm_q", "norm_k"] { add("\(block).attn.\(name).weight", [sizes.head]) }
            linear("\(block).proj_mlp", mlp, hidden)
            linear("\(block).proj_out", hidden, hidden + mlp)
        }
        linear("norm_out.linear", 2 * hidden, hidden)
        linear("proj_out", sizes.input, hidden)
        return tensors
    }

    /// The same numbers as Black Forest Labs store them.
    private static func original(_ tensors: [String: Raw]) throws -> [String: Raw] {
        var result: [String: Raw] = [:]
        func put(_ name: String, _ parts: String...) throws {
            for kind in ["weight", "bias"] {
                result["\(name).\(kind)"] = Raw.joined(try parts.map { try #require(tensors["\($0).\(kind)"]) })
            }
        }
        func gain(_ name: String, _ source: String) throws {
            let raw: Raw = try #require(tensors["\(source).weight"])
            result["\(name).scale"] = raw
        }
        func blocks(_ list: String) -> Int {
            var count = 0
            while tensors["\(list).\(count).attn.norm_q.weight"] != nil { count += 1 }
            return count
        }
        try put("img_in", "x_embedder")
        try put("txt_in", "context_embedder")
        for (name, source) in [("time", "timestep"), ("vector", "text"), ("guidance", "guidance")]
        where tensors["time_text_embed.\(source)_embedder.linear_1.weight"] != nil {
            try put("\(name)_in.in_layer", "time_text_embed.\(source)_embedder.linear_1")
            try put("\(name)_in.out_layer", "time_text_embed.\(source)_embedder.linear_2")
        }
        for index in 0..<blocks("transformer_blocks") {
            let (to, from) = ("double_blocks.\(index)", "transformer_blocks.\(index)")
            try put("\(to).img_mod.lin", "\(from).norm1.linear")
            try put("\(to).txt_mod.lin", "\(from).norm1_context.linear")
            try put("\(to).img_attn.qkv", "\(from).attn.to_q", "\(from).attn.to_k", "\(from).attn.to_v")
            try put(
                "\(to).txt_attn.qkv", "\(from).attn.add_q_proj", "\(from).attn.add_k_proj", "\(from).attn.add_v_proj")
            try gain("\(to).img_attn.norm.query_norm", "\(from).attn.norm_q")
            try gain("\(to).img_attn.norm.key_norm", "\(from).attn.norm_k")
            try gain("\(to).txt_attn.norm.query_norm", "\(from).attn.norm_added_q")
            try gain("\(to).txt_attn.norm.key_norm", "\(from).attn.norm_added_k")
            try put("\(to).img_attn.proj", "\(from).attn.to_out.0")
            try put("\(to).txt_attn.proj", "\(from).attn.to_add_out")
            try put("\(to).img_mlp.0", "\(from).ff.net.0.proj")
            try put("\(to).img_mlp.2", "\(from).ff.net.2")
            try put("\(to).txt_mlp.0", "\(from).ff_context.net.0.proj")
            try put("\(to).txt_mlp.2", "\(from).ff_context.net.2")
        }
        for index in 0..<blocks("single_transformer_blocks") {
            let (to, from) = ("single_blocks.\(index)", "single_transformer_blocks.\(index)")
            try put("\(to).modulation.lin", "\(from).norm.linear")
            try put(
                "\(to).linear1", "\(from).attn.to_q", "\(from).attn.to_k", "\(from).attn.to_v", "\(from).proj_mlp")
            try put("\(to).linear2", "\(from).proj_out")
            try gain("\(to).norm.query_norm", "\(from).attn.norm_q")
            try gain("\(to).norm.key_norm", "\(from).attn.norm_k")
        }
        try put("final_layer.linear", "proj_out")
        for kind in ["weight", "bias"] {
            var raw = try #require(tensors["norm_out.linear.\(kind)"])
            let half = raw.bytes.count / 2
            raw.bytes = Array(raw.bytes[half...] + raw.bytes[..<half])
            result["final_layer.adaLN_modulation.1.\(kind)"] = raw
        }
        return result
    }

    private func write(_ tensors: [String: Raw], prefix: String = "") throws -> String {
        let path = folder.path + "/flux.safetensors"
        let stored = tensors.map { name, raw in
            let tensor = Tensor(zeros: Shape(raw.shape), .bfloat16)
            tensor.mutableAddress.copyMemory(from: raw.bytes, byteCount: raw.bytes.count)
            return (prefix + name, tensor)
        }
        try SafetensorsWriter.write(Dictionary(uniqueKeysWithValues: stored), to: path)
        return path
    }

    private func check(_ source: any TensorSource, against expected: [String: Raw]) throws {
        #expect(source.tensorNames == Set(expected.keys))
        for (name, raw) in expected {
            let tensor = try source.tensor(name)
            #expect(tensor.shape.dimensions == raw.shape && tensor.copiedBytes == raw.bytes, "\(name)")
        }
    }

    @Test(arguments: ["", "model.diffusion_model."], [true, false])
    func presentsDiffusersNames(_ prefix: String, _ guidance: Bool) throws {
        let expected = Self.diffusers(Sizes(guidance: guidance))
        let path = try write(Self.original(expected), prefix: prefix)
        let source = try Checkpoint.open(path)
        #expect(source is OriginalFluxCheckpoint)
        try check(source, against: expected)
        let dimensions = try FluxDimensions(of: source)
        #expect(dimensions.numLayers == 2 && dimensions.numSingleLayers == 3 && dimensions.hidden == 8)
        #expect(dimensions.headDim == 4 && dimensions.numAttentionHeads == 2 && dimensions.inChannels == 12)
        #expect(dimensions.jointAttentionDim == 6 && dimensions.pooledProjectionDim == 5)
        #expect(dimensions.guidanceEmbeds == guidance)
        #expect(try Inspection(path).components[0].kind == .fluxTransformer(dimensions, originalNames: true))
        #expect(try FluxDimensions(of: Checkpoint.open(write(expected))) == dimensions)
    }

    private static let transformers = Goldens.fluxModels.map { $0.appending(path: "model/transformer").path }

    @Test(.enabled(if: !transformers.isEmpty, "no golden model beside the repository"), arguments: transformers)
    func goldenTransformers(_ model: String) throws {
        let source = try Checkpoint.open(model)
        var expected: [String: Raw] = [:]
        for name in source.tensorNames {
            let tensor = try source.tensor(name)
            try #require(tensor.dtype == .bfloat16, "this test writes bf16")
            expected[name] = Raw(shape: tensor.shape.dimensions, bytes: tensor.copiedBytes)
        }
        let converted = try Checkpoint.open(write(Self.original(expected)))
        try check(converted, against: expected)
        #expect(try FluxDimensions(of: converted) == FluxDimensions(of: source))
    }

    @Test func copiesOnlyTheLastModulation() throws {
        let source = try Checkpoint.open(write(Self.original(Self.diffusers(Sizes()))))
        for name in source.tensorNames {
            let isCopy = try source.tensor(name).storage.path == nil
            #expect(isCopy == name.hasPrefix("norm_out.linear."), "\(name)")
        }
    }

    @Test func otherPartsOfThePipelineAreLeftOut() throws {
        var tensors = try Self.original(Self.diffusers(Sizes()))
        tensors = Dictionary(uniqueKeysWithValues: tensors.map { ("model.diffusion_model." + $0, $1) })
        tensors["vae.decoder.conv_in.bias"] = Raw(shape: [1], bytes: [0, 0])
        tensors["model.diffusion_model.extra.weight"] = Raw(shape: [1], bytes: [0, 0])
        let source = try Checkpoint.open(write(tensors))
        #expect(!source.tensorNames.contains("vae.decoder.conv_in.bias"))
        #expect(source.tensorNames.contains("extra.weight"))  // for the reader to complain of
    }

    @Test(arguments: [
        ("double_blocks.0.img_attn.qkv.weight", [25, 8], "transformer_blocks.0.attn.to_v.weight", [24, 8]),
        ("single_blocks.1.linear1.bias", [24], "single_transformer_blocks.1.proj_mlp.bias", [25]),
        ("double_blocks.1.txt_attn.qkv.bias", [], "transformer_blocks.1.attn.add_q_proj.bias", [24]),
    ])
    func fusedTensorOfAnotherSize(_ original: String, _ shape: [Int], _ name: String, _ expected: [Int]) throws {
        var tensors = try Self.original(Self.diffusers(Sizes()))
        tensors[original] = Raw(shape: shape, bytes: [UInt8](repeating: 0, count: 2 * shape.reduce(1, *)))
        let path = try write(tensors)
        #expect(
            throws: CheckpointError.wrongShape(
                path: path, name: original, found: Shape(shape), expected: Shape(expected))
        ) { try Checkpoint.open(path).tensor(name) }
    }

    @Test(arguments: [
        ("img_in.weight", [Int.max / 8, 0]), ("img_in.weight", [8]), ("final_layer.adaLN_modulation.1.bias", [15]),
        ("double_blocks.0.img_attn.norm.query_norm.scale", [0]),
        ("double_blocks.0.img_attn.norm.query_norm.scale", [3]),
        ("txt_in.weight", [8]), ("vector_in.in_layer.weight", [0, 5]),
    ])
    func absurdShapes(_ original: String, _ shape: [Int]) throws {
        var tensors = try Self.original(Self.diffusers(Sizes()))
        tensors[original] = Raw(shape: shape, bytes: [UInt8](repeating: 0, count: 2 * shape.reduce(1, *)))
        let source = try Checkpoint.open(write(tensors))
        #expect(throws: CheckpointError.self) {
            _ = try FluxDimensions(of: source)
            for name in source.tensorNames { _ = try source.tensor(name) }
        }
    }

    @Test func missingTensors() throws {
        let all = try Self.original(Self.diffusers(Sizes()))
        let path = try write(all.filter { !$0.key.hasPrefix("double_blocks.0.txt") && $0.key != "txt_in.weight" })
        let source = try Checkpoint.open(path)
        #expect(throws: CheckpointError.missingTensor(path: path, name: "context_embedder.weight")) {
            try FluxDimensions(of: source)
        }
        let gap = try Checkpoint.open(write(all.filter { !$0.key.hasPrefix("single_blocks.1.") }))
        let error = #expect(throws: CheckpointError.self) { try FluxDimensions(of: gap) }
        #expect(error?.description.contains("single_transformer_blocks.1 is missing") == true)
    }
}
