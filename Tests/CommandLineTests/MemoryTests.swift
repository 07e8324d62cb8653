import Foundation
import NibbleCheckpoints
import NibbleImages
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// A transformer larger than the memory it is given.
@Suite struct MemoryTests {
    /// A transformer that fits the embedded model's other parts, but wider and deeper: 400 MB in bf16.
    static var config: FluxConfig {
        var config = FluxConfig()
        config.doubleBlocks = 3
        config.singleBlocks = 6
        config.heads = 16
        config.headDim = 64
        config.axesDimsRope = [16, 24, 24]
        config.jointAttentionDim = 256
        config.pooledProjectionDim = 256
        config.guidanceEmbeds = true
        return config
    }

    private static func json(_ config: FluxConfig) -> [String: Any] {
        [
            "_class_name": "FluxTransformer2DModel", "num_layers": config.doubleBlocks,
            "num_single_layers": config.singleBlocks, "attention_head_dim": config.headDim,
            "num_attention_heads": config.heads, "in_channels": config.inChannels, "guidance_embeds": true,
            "joint_attention_dim": config.jointAttentionDim, "pooled_projection_dim": config.pooledProjectionDim,
            "axes_dims_rope": config.axesDimsRope,
        ]
    }

    /// Writes it into a folder, one tensor at a time; returns the size of its file.
    static func writeTransformer(_ folder: URL) throws -> Int {
        let config = Self.config
        let asked = ZeroWeights()
        _ = try FluxTransformer(config, weights: WeightReader(asked))
        let path = folder.appending(path: "diffusion_pytorch_model.safetensors").path
        let writer = try SafetensorsWriter(
            path, tensors: asked.requests.map { TensorDeclaration(name: $0, dtype: .bfloat16, shape: $1) })
        let weights = RandomWeights(dtype: .bfloat16)
        for tensor in writer.declarations {
            try writer.write(tensor.name, weights.tensor(tensor.name, expecting: tensor.shape))
        }
        try writer.finish()
        try JSONSerialization.data(withJSONObject: Self.json(config)).write(to: folder.appending(path: "config.json"))
        return try #require(FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
    }

    @Test func `a model larger than memory runs below the memory that it is given, and draws the same`() async throws {
        let scratch = try Scratch()
        let size = try Self.writeTransformer(scratch.folder)
        let limit = 256 << 20
        #expect(size > limit + limit / 4)
        func draw(_ name: String, _ options: String...) async throws -> Int {
            let outcome = try await Tool.nibble(
                [
                    "generate", "x", "--model", Drawing.model, "--transformer", scratch.folder.path, "--seed", "7",
                    "--steps", "2", "--width", "64", "--height", "64", "--quiet", "--json", "--output",
                    scratch.path(name),
                ] + options)
            #expect(outcome.status == 0, "\(outcome.error)")
            struct Report: Decodable {
                let peak: Int
                enum CodingKeys: String, CodingKey { case peak = "peak_rss_bytes" }
            }
            return try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8)).peak
        }
        let (free, limited) = (try await draw("free.png"), try await draw("limited.png", "--memory", "256M"))
        print("transformer of \(size >> 20) MiB: peak \(free >> 20) MiB, with --memory 256M \(limited >> 20) MiB")
        #expect(free > limit, "the measurement could not fail")
        #expect(limited < limit)
        #expect(try Drawing.bytes(scratch.path("free.png")) == Drawing.bytes(scratch.path("limited.png")))
    }

    /// A 4-bit transformer that fits the embedded model's other parts.
    private static func quantizedTransformer() throws -> RandomInt4Checkpoint {
        var config = Self.config
        config.doubleBlocks = 5
        config.singleBlocks = 18
        let asked = ZeroWeights()
        _ = try FluxTransformer(config, weights: WeightReader(asked))
        let plain = asked.requests.map { ($0.key.replacing(".attn.norm_", with: ".norm_"), $0.value) }
        let text = String(decoding: try JSONSerialization.data(withJSONObject: Self.json(config)), as: UTF8.self)
        return try RandomInt4Checkpoint(
            config: text, plainShapes: Dictionary(plain) { first, _ in first })
    }

    @Test func `a nibble file larger than memory runs block by block, and draws the same as Nunchaku's`() async throws {
        let scratch = try Scratch()
        let made = try Self.quantizedTransformer()
        let pool = ThreadPool(threadCount: 2)
        let (nibble, nunchaku) = (scratch.path("nibble.safetensors"), scratch.path("nunchaku.safetensors"))
        try made.writeNibble(to: nibble, on: pool)
        try made.writeNunchaku(to: nunchaku, on: pool)
        let limit = 192 << 20
        let size = try SafetensorsFile(nibble).byteCount
        #expect(size > limit + limit / 4)
        func draw(_ transformer: String, _ name: String, _ options: String...) async throws -> Tool.Outcome {
            try await Tool.nibble(
                [
                    "generate", "x", "--model", Drawing.model, "--transformer", transformer, "--seed", "7", "--steps",
                    "2", "--width", "64", "--height", "64", "--quiet", "--json", "--output", scratch.path(name),
                ] + options)
        }
        struct Report: Decodable {
            let peak: Int
            enum CodingKeys: String, CodingKey { case peak = "peak_rss_bytes" }
        }
        var peaks: [Int] = []
        for outcome in [
            try await draw(nibble, "free.png"), try await draw(nibble, "limited.png", "--memory", "192M"),
            try await draw(nunchaku, "nunchaku.png"),
        ] {
            #expect(outcome.status == 0, "\(outcome.error)")
            peaks.append(try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8)).peak)
        }
        print("4-bit transformer of \(size >> 20) MiB, peaks in MiB: \(peaks.map { $0 >> 20 })")
        #expect(peaks[0] > limit, "the measurement could not fail")
        #expect(peaks[1] < limit)
        // Its pages leave memory as its layers are brought into order.
        #expect(peaks[2] < peaks[0] + size / 2)
        #expect(try Drawing.bytes(scratch.path("free.png")) == Drawing.bytes(scratch.path("limited.png")))
        let pictures = try ["free.png", "nunchaku.png"].map { try PNG.read(scratch.path($0)).bitmap }
        #expect(pictures[0] == pictures[1])
        // What cannot leave memory is refused before it is read, with the way out.
        let refused = try await draw(nunchaku, "x.png", "--memory", "192M")
        #expect(refused.status != 0 && refused.error.contains("nibble convert FILE --to nibble"), "\(refused.error)")
    }

    @Test func `memory that is too little is said`() async throws {
        let outcome = try await Tool.nibble(Drawing.arguments("x", "--memory", "16M", "--output", "x.png"))
        #expect(outcome.status == 0)
        #expect(outcome.error.contains("--memory was too little for this picture: it took "))
    }
}
