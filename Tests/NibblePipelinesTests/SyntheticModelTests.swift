import Foundation
import NibbleCheckpoints
import NibbleImages
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibblePipelines

/// Models of random weights, made of configurations.
@Suite struct SyntheticModelTests {
    /// The embedded model's configurations are the small ones; of its weights nothing is read.
    private static let small = Goldens.repository.appending(path: "Models/flux-emoji").path

    /// A folder that is gone after the test.
    private final class Target {
        let path = NSTemporaryDirectory() + "nibble-" + UUID().uuidString
        deinit { try? FileManager.default.removeItem(atPath: path) }

        /// All files below the folder, with their bytes.
        var files: [String: Data] {
            get throws {
                let manager = FileManager.default
                var files: [String: Data] = [:]
                for name in try manager.subpathsOfDirectory(atPath: path) {
                    files[name] = manager.contents(atPath: path + "/" + name)
                }
                return files
            }
        }
    }

    @Test(arguments: SyntheticModel.Format.allCases)
    func `a model of each format draws, and is the same on any number of threads`(
        _ format: SyntheticModel.Format
    ) async throws {
        let (target, other) = (Target(), Target())
        let model = try SyntheticModel(configurations: Self.small, format: format, seed: 3)
        var seen: [Int] = []
        try model.write(to: target.path, on: ThreadPool(threadCount: 1)) { done, total in
            #expect(total == model.byteCount)
            seen.append(done)
        }
        #expect(seen == seen.sorted() && seen.last == model.byteCount)
        try model.write(to: other.path, on: ThreadPool(threadCount: 3))
        #expect(try target.files == other.files)

        var options = FluxPipeline.Options()
        options.threads = 2
        let pipeline = try FluxPipeline(model: target.path, options: options)
        // A result that is not finite would be an error.
        let picture = try #require(
            try await pipeline.pictures(FluxRequest(prompt: "x", steps: 2, width: 64, height: 64, seed: 1)).first)
        #expect(Set(picture.bitmap.pixels).count > 50, "a picture of noise has many values")
        let kinds = try Inspection(target.path).components.reduce(into: [:]) { $0[$1.name] = "\($1.kind)" }
        let isBF16 = format == .bf16
        #expect(kinds["transformer"]?.contains(isBF16 ? "diffusers" : "INT4") == true, "\(kinds)")
        #expect(kinds["text_encoder_2"]?.contains(isBF16 ? "T5 encoder, 2 blocks" : "nibble, T5") == true, "\(kinds)")
    }

    @Test func `tensors add up to what is promised`() throws {
        for format in SyntheticModel.Format.allCases {
            let target = Target()
            let model = try SyntheticModel(configurations: Self.small, format: format)
            try model.write(to: target.path, on: ThreadPool(threadCount: 2))
            let found = try Inspection(target.path).components.reduce(0) { $0 + $1.byteCount }
            #expect(found == model.byteCount)
        }
    }

    @Test(
        .enabled(if: !Goldens.realConfigurations.isEmpty, "no flux-configs beside the repository"),
        arguments: Goldens.realConfigurations)
    func `real sizes are those of the real files`(_ folder: URL) throws {
        func model(_ format: SyntheticModel.Format) throws -> SyntheticModel {
            try SyntheticModel(configurations: folder.path, format: format, tokenizersOf: Self.small)
        }
        let plain = try model(.bf16)
        for (component, index) in [
            (ModelFolder.Component.transformer, "transformer/diffusion_pytorch_model.safetensors.index.json"),
            (.textEncoder2, "text_encoder_2/model.safetensors.index.json"),
        ] {
            let expected = try WeightIndex(folder.appending(path: index)).totalSize
            #expect(plain.byteCount(of: component) == expected)
        }
        // Blocks of either model have 6.64 GB (spec, section 2.7); what is not quantized is in the index's total: of its
        // tensors those outside of the blocks are x_embedder, context_embedder, norm_out, proj_out and three, or two,
        // embedders of 256, 256 and 768 inputs, in bf16.
        let hidden = 3072
        func linear(_ outputs: Int, _ inputs: Int) -> Int { 2 * outputs * (inputs + 1) }
        let isDev = folder.lastPathComponent.hasSuffix("dev")
        let ends = linear(hidden, 64) + linear(hidden, 4096) + linear(2 * hidden, hidden) + linear(64, hidden)
        let embedders =
            linear(hidden, 256) * (isDev ? 2 : 1) + linear(hidden, 768) + linear(hidden, hidden) * (isDev ? 3 : 2)
        #expect(try model(.nunchaku).byteCount(of: .transformer) == 6_639_749_120 + ends + embedders)
        let small = try model(.nibble)
        // README: T5 has 2.8 GB in 4 bits, all of it about 10 GB.
        #expect(try #require(small.byteCount(of: .textEncoder2)) / 100_000_000 == 28)
        #expect((9_500_000_000..<10_200_000_000).contains(small.byteCount))
    }

    @Test func `a transformer alone is a folder that takes another's place`() async throws {
        let (configs, target) = (Target(), Target())
        try FileManager.default.createDirectory(
            atPath: configs.path + "/transformer", withIntermediateDirectories: true)
        try FileManager.default.copyItem(
            atPath: Self.small + "/transformer/config.json", toPath: configs.path + "/transformer/config.json")
        try SyntheticModel(configurations: configs.path, format: .nibble).write(
            to: target.path, on: ThreadPool(threadCount: 2))
        var options = FluxPipeline.Options()
        options.transformer = target.path
        let pipeline = try FluxPipeline(model: Self.small, options: options)
        #expect(
            try await pipeline.pictures(FluxRequest(prompt: "x", steps: 1, width: 16, height: 16, seed: 1)).count == 1)
    }
}

// MARK: - What is refused

extension SyntheticModelTests {
    @Test func `a folder with something else in it stays as it is`() throws {
        let target = Target()
        try FileManager.default.createDirectory(atPath: target.path, withIntermediateDirectories: true)
        try Data("mine".utf8).write(to: URL(filePath: target.path + "/notes.txt"))
        let pool = ThreadPool(threadCount: 1)
        let model = try SyntheticModel(configurations: Self.small, format: .bf16)
        #expect(throws: CheckpointError.occupied(path: target.path)) { try model.write(to: target.path, on: pool) }
        #expect(try target.files.keys.sorted() == ["notes.txt"])
        // One of its own is replaced, whatever its format was.
        let own = Target()
        try model.write(to: own.path, on: pool)
        try SyntheticModel(configurations: Self.small, format: .nibble).write(to: own.path, on: pool)
        #expect(throws: Never.self) { try FluxPipeline(model: own.path) }
        #expect(Checkpoint.int4Form(of: own.path + "/transformer") == .nibble)
    }

    @Test func `stopped, it leaves nothing`() throws {
        let target = Target()
        struct Stop: Error {}
        let model = try SyntheticModel(configurations: Self.small, format: .nunchaku)
        #expect(throws: Stop.self) {
            try model.write(to: target.path, on: ThreadPool(threadCount: 2)) { done, total in
                if done > total * 9 / 10 { throw Stop() }
            }
        }
        #expect(!FileManager.default.fileExists(atPath: target.path))
    }

    /// The small configurations with one file changed.
    private func changed(
        _ file: String, in target: Target, _ body: (inout [String: Any]) -> Void
    ) throws -> String {
        try FileManager.default.createDirectory(atPath: target.path, withIntermediateDirectories: true)
        for name in try FileManager.default.subpathsOfDirectory(atPath: Self.small)
        where !name.hasSuffix(".safetensors") && name.contains(".") {
            let url = URL(filePath: target.path + "/" + name)
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            var data = try Data(contentsOf: URL(filePath: Self.small + "/" + name))
            if name == file {
                var object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
                body(&object)
                data = try JSONSerialization.data(withJSONObject: object)
            }
            try data.write(to: url)
        }
        return target.path
    }

    /// Each of these would take more than memory, more than the disk, or make no model.
    @Test(arguments: [
        ("transformer/config.json", "num_attention_heads", 1024), ("transformer/config.json", "num_layers", 65_536),
        ("transformer/config.json", "num_layers", -1), ("transformer/config.json", "in_channels", 32),
        ("text_encoder_2/config.json", "num_layers", 1 << 20), ("text_encoder_2/config.json", "num_heads", 1 << 20),
        ("text_encoder_2/config.json", "vocab_size", 100), ("text_encoder/config.json", "num_hidden_layers", 1 << 20),
        ("text_encoder/config.json", "hidden_size", 1 << 20), ("vae/config.json", "latent_channels", 4),
        ("vae/config.json", "layers_per_block", 1000),
    ])
    func `absurd configurations are refused before anything is written`(
        _ file: String, _ key: String, _ value: Int
    ) throws {
        for format in SyntheticModel.Format.allCases {
            let configs = Target()
            let path = try changed(file, in: configs) { $0[key] = value }
            #expect {
                _ = try SyntheticModel(configurations: path, format: format)
            } throws: { $0 is CheckpointError || $0 is PipelineError }
        }
    }

    @Test func `more than the disk holds is refused with both numbers`() throws {
        // Some 3.5 TB: no more than 16,384 tensors, none above 2 GiB.
        let (configs, target) = (Target(), Target())
        let path = try changed("transformer/config.json", in: configs) {
            $0["num_attention_heads"] = 192
            $0["num_layers"] = 350
        }
        let model = try SyntheticModel(configurations: path, format: .bf16)
        #expect {
            try model.write(to: target.path, on: ThreadPool(threadCount: 1))
        } throws: { error in
            guard case CheckpointError.tooLittleSpace(target.path, let needed, let free) = error else { return false }
            return needed > model.byteCount && free < needed && "\(error)".contains("\(needed) bytes")
        }
        #expect(!FileManager.default.fileExists(atPath: target.path))
    }

    @Test func `tokenizers are the folder's, or stand in, or are missed`() throws {
        let configs = Target()
        let path = try changed("none", in: configs) { _ in }
        #expect(try SyntheticModel(configurations: path, format: .bf16).tokenizers == path)
        try FileManager.default.removeItem(atPath: path + "/tokenizer_2")
        #expect(throws: (any Error).self) { try SyntheticModel(configurations: path, format: .bf16) }
        let model = try SyntheticModel(configurations: path, format: .bf16, tokenizersOf: Self.small)
        #expect(model.tokenizers == Self.small)
        let target = Target()
        try model.write(to: target.path, on: ThreadPool(threadCount: 1))
        let config = try #require(try target.files["tokenizer_2/tokenizer_config.json"])
        let object = try #require(try JSONSerialization.jsonObject(with: config) as? [String: Any])
        #expect(object["model_max_length"] as? Int == 512)
    }
}
