import Foundation
import NibbleCheckpoints
import NibbleTensors
import Testing

/// Every damage that a model, a picture or a place to write to can have, one at a time: its own error, exit status 65,
/// and no picture.
@Suite struct BadInputTests {
    /// One thing that is wrong.
    struct Damage: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// What standard error must name.
        let words: [String]
        let apply: @Sendable (ModelCopy) throws -> Void

        init(_ name: String, _ words: String..., apply: @escaping @Sendable (ModelCopy) throws -> Void) {
            testDescription = name
            self.words = words
            self.apply = apply
        }
    }

    static let transformer = "transformer/diffusion_pytorch_model.safetensors"
    static let autoencoder = "vae/diffusion_pytorch_model.safetensors"
    static let clip = "text_encoder/model.safetensors"
    static let t5 = "text_encoder_2/model.safetensors"

    static let folders: [Damage] = [
        Damage("no model", "model", "no such folder") { try FileManager.default.removeItem(at: $0.folder) },
        Damage("no index of the model", "model_index.json", "no such file") { try $0.remove("model_index.json") },
        Damage("another pipeline", "model_index.json", "'_class_name'", "'StableDiffusionPipeline'", "FluxPipeline") {
            try $0.replace("FluxPipeline", with: "StableDiffusionPipeline", in: "model_index.json")
        },
        Damage("no weights", "transformer", "diffusion_pytorch_model.safetensors") { try $0.remove(transformer) },
        Damage("no transformer", "transformer") { try $0.remove("transformer") },
        Damage("no text encoder", "text_encoder_2") { try $0.remove("text_encoder_2") },
        Damage("no scheduler", "scheduler_config.json") { try $0.remove("scheduler/scheduler_config.json") },
        Damage("a shard is missing", "diffusion_pytorch_model-00002-of-00002.safetensors", "index.json") { model in
            let (first, second) = (
                "diffusion_pytorch_model-00001-of-00002.safetensors",
                "diffusion_pytorch_model-00002-of-00002.safetensors"
            )
            let names = try SafetensorsFile(model.path(transformer)).tensorNames
            let map = names.map { "\"\($0)\":\"\($0.hasPrefix("single") ? second : first)\"" }.joined(separator: ",")
            try model.write(
                Data("{\"metadata\":{},\"weight_map\":{\(map)}}".utf8),
                to: "transformer/diffusion_pytorch_model.safetensors.index.json")
            try model.edit(transformer) { $0 = $0.filter { !$0.key.hasPrefix("single") } }
            try FileManager.default.moveItem(
                atPath: model.path(transformer), toPath: model.path("transformer/\(first)"))
        },
    ]

    static let configurations: [Damage] = [
        Damage("configuration cut short", "transformer/config.json", "JSON") {
            try $0.truncate("transformer/config.json", to: 0.5)
        },
        Damage("configuration empty", "vae/config.json", "JSON") { try $0.write(Data(), to: "vae/config.json") },
        Damage("absurd size", "transformer/config.json", "num_layers", "9000000000000000000") {
            try $0.replace(
                "\"num_layers\": 2", with: "\"num_layers\": 9000000000000000000", in: "transformer/config.json")
        },
        Damage("size of zero", "transformer/config.json", "num_attention_heads", "0") {
            try $0.replace(
                "\"num_attention_heads\": 4", with: "\"num_attention_heads\": 0", in: "transformer/config.json")
        },
        Damage("number beyond 64 bits", "text_encoder_2/config.json", "d_model", "99999999999999999999") {
            try $0.replace(
                "\"d_model\": 256", with: "\"d_model\": 99999999999999999999", in: "text_encoder_2/config.json")
        },
        Damage("text for a number", "text_encoder/config.json", "hidden_size", "'many'", "number") {
            try $0.replace("\"hidden_size\": 256", with: "\"hidden_size\": \"many\"", in: "text_encoder/config.json")
        },
        Damage("nested without end", "config.json") {
            let deep = String(repeating: "[", count: 100_000)
            try $0.write(Data(deep.utf8), to: "transformer/config.json")
        },
        Damage("widths that do not belong together", "transformer", "text of width 128", "256") { model in
            try model.replace(
                "\"joint_attention_dim\": 256", with: "\"joint_attention_dim\": 128", in: "transformer/config.json")
            try model.edit(transformer) { tensors in
                tensors["context_embedder.weight"] = Tensor(zeros: [256, 128], .bfloat16)
            }
        },
    ]

    static let checkpoints: [Damage] = [
        Damage("weights cut short", transformer) { try $0.truncate(transformer, to: 0.9) },
        Damage("weights cut in the header", autoencoder) { try $0.truncate(autoencoder, to: 0.001) },
        Damage("weights empty", clip) { try $0.write(Data(), to: clip) },
        Damage("header of absurd length", t5) {
            try $0.write(Data([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x7b]), to: t5)
        },
        Damage("tensor of another type", transformer, "'proj_out.weight'", "I32", "F32, F16, BF16") { model in
            try model.edit(transformer) { tensors in
                tensors["proj_out.weight"] = Tensor(
                    storage: Storage(byteCount: 64 * 256 * 4), shape: [64, 256], dtype: .int32)
            }
        },
        Damage("tensor of another shape", transformer, "'x_embedder.weight'", "[256, 60]", "[256, 64]") { model in
            try model.edit(transformer) { $0["x_embedder.weight"] = Tensor(zeros: [256, 60], .bfloat16) }
        },
        Damage("tensor missing", transformer, "'proj_out.bias'", "missing") { model in
            try model.edit(transformer) { $0["proj_out.bias"] = nil }
        },
        Damage("tensor missing in the decoder", autoencoder, "'decoder.conv_out.weight'", "missing") { model in
            try model.edit(autoencoder) { $0["decoder.conv_out.weight"] = nil }
        },
        Damage("tensor left over", transformer, "extra.weight", "not part of this model") { model in
            try model.edit(transformer) { $0["extra.weight"] = Tensor(zeros: [1], .bfloat16) }
        },
    ]

    static let poisoned: [(file: String, tensor: String)] = [
        (transformer, "transformer_blocks.0.attn.to_q.weight"), (transformer, "transformer_blocks.1.ff.net.2.weight"),
        (transformer, "single_transformer_blocks.0.attn.to_k.weight"),
        (transformer, "single_transformer_blocks.3.norm.linear.weight"), (transformer, "x_embedder.weight"),
        (transformer, "transformer_blocks.0.attn.norm_k.weight"), (transformer, "proj_out.bias"),
        (t5, "encoder.block.0.layer.0.SelfAttention.k.weight"),
        (t5, "encoder.block.1.layer.1.DenseReluDense.wi_0.weight"), (t5, "encoder.final_layer_norm.weight"),
        (clip, "encoder.layers.0.self_attn.v_proj.weight"), (clip, "encoder.layers.1.mlp.fc1.weight"),
        (autoencoder, "decoder.conv_in.weight"), (autoencoder, "decoder.mid_block.attentions.0.to_q.weight"),
        (autoencoder, "decoder.up_blocks.3.resnets.0.conv1.weight"), (autoencoder, "decoder.conv_norm_out.weight"),
    ]

    static let notFinite = poisoned.map { file, tensor in
        Damage("NaN in \(file) \(tensor)", file, "'\(tensor)'", "NaN") { try $0.poison(tensor, in: file) }
    }

    static let tokenizers: [Damage] = [
        Damage("no CLIP tokenizer", "tokenizer") { try $0.remove("tokenizer") },
        Damage("no T5 tokenizer", "tokenizer_2") { try $0.remove("tokenizer_2/tokenizer.json") },
        Damage("CLIP vocabulary malformed", "vocab.json") { try $0.truncate("tokenizer/vocab.json", to: 0.7) },
        Damage("T5 tokenizer malformed", "tokenizer.json") { try $0.truncate("tokenizer_2/tokenizer.json", to: 0.7) },
        Damage("CLIP vocabulary too large", "tokenizer", "2274", "'vocab_size'", "2000") { model in
            try model.replace("\"vocab_size\": 2274", with: "\"vocab_size\": 2000", in: "text_encoder/config.json")
            try model.edit(clip) { $0["embeddings.token_embedding.weight"] = Tensor(zeros: [2000, 256], .bfloat16) }
        },
        Damage("T5 vocabulary too large", "tokenizer_2", "2680", "'vocab_size'", "2000") { model in
            try model.replace("\"vocab_size\": 2680", with: "\"vocab_size\": 2000", in: "text_encoder_2/config.json")
            try model.edit(t5) { $0["shared.weight"] = Tensor(zeros: [2000, 256], .bfloat16) }
        },
    ]

    @Test(arguments: folders + configurations + checkpoints + tokenizers)
    func `a damaged model is named and nothing is drawn`(_ damage: Damage) async throws {
        try await expect(damage, precision: "f32")
    }

    @Test(arguments: notFinite, ["f32", "bf16"])
    func `a weight that is not a number is named`(_ damage: Damage, _ precision: String) async throws {
        try await expect(damage, precision: precision)
    }

    private func expect(_ damage: Damage, precision: String) async throws {
        let scratch = try Scratch()
        let model = try ModelCopy(in: scratch)
        try damage.apply(model)
        let outcome = try await Tool.nibble(
            Drawing.arguments(
                "a red apple", model: model.folder.path, "--precision", precision, "--quiet", "--output",
                scratch.path("out.png")))
        #expect(outcome.status == 65, "\(outcome.error)")
        #expect(outcome.error.hasPrefix("error: ") && outcome.error.split(separator: "\n").count == 1)
        for word in damage.words { #expect(outcome.error.contains(word), "'\(word)' in: \(outcome.error)") }
        // An error is read by people: no dump of a Swift value, no page of text.
        #expect(!outcome.error.contains("Optional(") && outcome.error.count < 700, "\(outcome.error)")
        #expect(try scratch.names == [] || scratch.names == ["model"])
    }

    @Test(arguments: [
        ("file.txt/out.png", "file.txt is a file, not a folder"), ("nowhere/out.png", "there is no folder"),
        ("folder", "is a folder; name a file"), ("folder/", "is a folder; name a file"), ("", "is a folder"),
    ])
    func `a place that cannot be written to is found before anything is drawn`(
        _ path: String, _ words: String
    ) async throws {
        let scratch = try Scratch()
        try scratch.write("text", to: "file.txt")
        try FileManager.default.createDirectory(atPath: scratch.path("folder"), withIntermediateDirectories: false)
        let outcome = try await Tool.nibble(
            Drawing.arguments("x", "--steps", "10000", "--output", path), in: scratch.folder)
        #expect(outcome.status == 65)
        #expect(outcome.error.hasPrefix("error: \(path)") && outcome.error.contains(words), "\(outcome.error)")
        #expect(try scratch.names == ["file.txt", "folder"])
    }

    @Test(
        .enabled(
            if: FileManager.default.fileExists(atPath: "/dev/full"), "this system has no device that is always full"))
    func `a full disk is an error`() async throws {
        let outcome = try await Tool.nibble(Drawing.arguments("x", "--quiet", "--output", "/dev/full"))
        #expect(outcome.status == 65)
        #expect(outcome.error.hasPrefix("error: ") && outcome.error.contains("/dev/full"))
        #expect(outcome.error.contains("no room"), "\(outcome.error)")
    }

    @Test func `a picture that cannot be made again says why`() async throws {
        let scratch = try Scratch()
        let drawn = try await Tool.nibble(Drawing.arguments("x", "--output", "good.png"), in: scratch.folder)
        #expect(drawn.status == 0)
        let good = try Drawing.bytes(scratch.path("good.png"))
        try good.prefix(good.count / 2).write(to: scratch.folder.appending(path: "half.png"))
        var damaged = good
        damaged[damaged.count / 2] ^= 0x55
        try damaged.write(to: scratch.folder.appending(path: "damaged.png"))
        try PNGFile.withoutTexts(good).write(to: scratch.folder.appending(path: "plain.png"))
        try scratch.write("not a picture", to: "text.png")
        for (name, words) in [
            ("half.png", "incomplete"), ("damaged.png", "damaged"), ("plain.png", "'nibble' or 'parameters'"),
            ("text.png", "not a PNG"), ("missing.png", "No such file"), (".", "not a file"),
        ] {
            let outcome = try await Tool.nibble(["generate", "--like", name, "--output", "x.png"], in: scratch.folder)
            #expect(outcome.status == 65, "\(name)")
            #expect(outcome.error.hasPrefix("error: ") && outcome.error.contains(name), "\(outcome.error)")
            #expect(outcome.error.contains(words), "\(name): \(outcome.error)")
        }
    }

    @Test func `prompts and files of the other verbs`() async throws {
        let scratch = try Scratch()
        try scratch.write("{\"a\": 1}", to: "object.json")
        try scratch.write("[1, 2]", to: "numbers.json")
        let tokenizers = ["--clip", Drawing.model + "/tokenizer", "--t5", Drawing.model + "/tokenizer_2"]
        let cases: [([String], [String])] = [
            (["tokenize", "--file", "object.json"] + tokenizers, ["object.json", "list of strings"]),
            (["tokenize", "--file", "numbers.json"] + tokenizers, ["numbers.json", "list of strings"]),
            (["tokenize", "--file", "nowhere.json"] + tokenizers, ["nowhere.json"]),
            (["tokenize", "x", "--clip", "nowhere"], ["nowhere"]),
            (["inspect", "nowhere"], ["nowhere"]), (["inspect", "object.json"], ["object.json"]),
            (["bench", "step", "--transformer", "nowhere", "--inputs", "nowhere"], ["nowhere"]),
            (["generate", "x", "--transformer", "nowhere"], ["nowhere"]),
        ]
        for (arguments, words) in cases {
            let outcome = try await Tool.nibble(arguments, in: scratch.folder)
            #expect(outcome.status == 65 && outcome.output == "", "\(arguments)")
            for word in ["error: "] + words { #expect(outcome.error.contains(word), "\(outcome.error)") }
        }
    }
}

/// A PNG as a row of chunks.
enum PNGFile {
    /// The same picture without its `tEXt`, `iTXt` and `zTXt` chunks.
    static func withoutTexts(_ data: Data) -> Data {
        let bytes = [UInt8](data)
        var kept = Array(bytes.prefix(8))
        var start = 8
        while start + 12 <= bytes.count {
            let length = bytes[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
            let kind = String(decoding: bytes[start + 4..<start + 8], as: UTF8.self)
            let end = min(start + 12 + length, bytes.count)
            if !kind.lowercased().hasSuffix("txt") && kind != "tEXt" { kept += bytes[start..<end] }
            start = end
        }
        return Data(kept)
    }
}
