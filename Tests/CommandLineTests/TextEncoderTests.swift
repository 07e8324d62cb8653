import Foundation
import NibbleCheckpoints
import NibbleImages
import NibbleTensors
import NibbleTestSupport
import Testing

/// T5 in 4 bits as a script makes and runs it: `quantize --component text_encoder_2`, `generate --text-encoder-2`.
@Suite struct TextEncoderTests {
    private static func arguments(_ output: String, _ more: String...) -> [String] {
        [
            "quantize", Drawing.model, "--component", "text_encoder_2", "--output", output, "--samples", "4", "--grid",
            "4", "--tokens", "64", "--quiet",
        ] + more
    }

    /// Makes a 4-bit T5 of the embedded model.
    private static func make(_ path: String, _ more: String...) async throws {
        let outcome = try await Tool.nibble(arguments(path) + more)
        #expect(outcome.status == 0, "\(outcome.error)")
    }

    @Test func `what it makes draws, and like draws the same again`() async throws {
        let scratch = try Scratch()
        let file = scratch.path("t5.safetensors")
        try await Self.make(file)
        let own = scratch.path("own.png")
        for (arguments, name) in [
            (Drawing.arguments("red apple", "--text-encoder-2", file, "--threads", "1"), "out.png"),
            (["generate", "--like", "out.png", "--threads", "2"], "again.png"),
            // What a transformer's inputs are quantized to is nothing to T5.
            (Drawing.arguments("red apple", "--text-encoder-2", file, "--activations", "int8"), "int8.png"),
            (Drawing.arguments("red apple"), "own.png"),
            (["generate", "--like", "out.png", "--model", Drawing.model], "without.png"),
        ] {
            let outcome = try await Tool.nibble(arguments + ["--output", name], in: scratch.folder)
            #expect(outcome.status == 0, "\(outcome.error)")
        }
        let picture = try Drawing.bytes(scratch.path("out.png"))
        #expect(try picture == Drawing.bytes(scratch.path("again.png")))
        func bitmap(_ name: String) throws -> Bitmap { try PNG.read(scratch.path(name)).bitmap }
        #expect(try bitmap("out.png") == bitmap("int8.png"))
        #expect(try bitmap("own.png") != bitmap("out.png") && bitmap("own.png") == bitmap("without.png"))
        #expect(
            try #require(Drawing.texts(scratch.path("out.png"))["nibble"]).contains("\"text_encoder_2\":\"\(file)\""))
        #expect(try !#require(Drawing.texts(own)["nibble"]).contains("text_encoder_2"))
        // Without the file the record cannot be followed, and says which option is missing.
        try FileManager.default.removeItem(atPath: file)
        let lost = try await Tool.nibble(["generate", "--like", "out.png", "--output", "x.png"], in: scratch.folder)
        #expect(lost.status == 65 && lost.error.contains("name it with --text-encoder-2"), "\(lost.error)")
    }

    @Test func `killed or shared it ends in the same bytes`() async throws {
        let scratch = try Scratch()
        let (whole, broken, shared) = (
            scratch.path("whole.safetensors"), scratch.path("broken.safetensors"), scratch.path("shared.safetensors")
        )
        let unbroken = try await Tool.nibble(Self.arguments(whole, "--threads", "1"))
        #expect(unbroken.status == 0, "\(unbroken.error)")
        for _ in 0..<3 {
            let moment = Double.random(in: 0.1...0.9)
            let outcome = try await Tool.nibble(Self.arguments(broken)) { process in
                Thread.sleep(forTimeInterval: moment * unbroken.seconds)
                kill(process.processIdentifier, SIGKILL)
            }
            #expect([137, 0].contains(outcome.status), "killed after \(moment) of the run: \(outcome.error)")
        }
        if !FileManager.default.fileExists(atPath: broken) { try await Self.make(broken) }
        async let first = Tool.nibble(Self.arguments(shared, "--worker", "1/2"))
        async let second = Tool.nibble(Self.arguments(shared, "--worker", "2/2"))
        for outcome in try await [first, second] { #expect(outcome.status == 0, "\(outcome.error)") }
        // Both may have been the last, or each have left the other's block to it.
        if !FileManager.default.fileExists(atPath: shared) { try await Self.make(shared) }
        let files = try [whole, broken, shared].map(Drawing.bytes)
        #expect(files[0] == files[1] && files[0] == files[2])
    }

    @Test func `it is inspected, verified and made an ordinary one`() async throws {
        let scratch = try Scratch()
        let file = scratch.path("t5.safetensors")
        try await Self.make(file, "--branch", "weights", "--rank", "16", "--iterations", "1")
        let shown = try await Tool.nibble(["inspect", file, "--verify"])
        #expect(shown.status == 0, "\(shown.error)")
        for words in [
            "nibble, T5 encoder, INT4, rank 16", "encoder.block.*.layer.*.SelfAttention.qkv", "W4A8 768 × 256",
            "an engine can compute with all 8 4-bit layers",
        ] {
            #expect(shown.output.contains(words), "\(words) in \(shown.output)")
        }
        let refused = try await Tool.nibble([
            "convert", file, "--to", "nunchaku", "--output", scratch.path("x.safetensors"),
        ])
        #expect(refused.status == 65 && refused.error.contains("has no place for a text encoder"), "\(refused.error)")
        let folder = scratch.path("text_encoder_2")
        let made = try await Tool.nibble(["convert", file, "--to", "dequantized", "--output", folder, "--quiet"])
        #expect(made.status == 0, "\(made.error)")
        let drawn = try await Tool.nibble(
            Drawing.arguments("red apple", "--text-encoder-2", folder, "--output", "x.png"), in: scratch.folder)
        #expect(drawn.status == 0, "\(drawn.error)")
    }

    @Test func `what is no T5 of this model is refused in words`() async throws {
        let scratch = try Scratch()
        let (file, transformer, other, poisoned) = (
            scratch.path("t5.safetensors"), scratch.path("transformer.safetensors"), scratch.path("other.safetensors"),
            scratch.path("poisoned.safetensors")
        )
        try await Self.make(file)
        let quantized = try await Tool.nibble([
            "quantize", Drawing.model, "--output", transformer, "--preset", "data-free", "--quiet",
        ])
        #expect(quantized.status == 0, "\(quantized.error)")
        var small = try SmallT5File(rank: 0)
        try small.write(to: other)
        let scales = "encoder.block.0.layer.0.SelfAttention.qkv.scales"
        let notANumber = Tensor(zeros: [12, 1, 16], .bfloat16)
        notANumber.mutableAddress.assumingMemoryBound(to: UInt16.self)[5] = 0x7fc0
        small.tensors[scales] = notANumber
        try small.write(to: poisoned)
        let model = try ModelCopy(in: scratch)
        try model.write(Drawing.bytes(file), to: "text_encoder_2/model.safetensors")
        for (arguments, words) in [
            (Drawing.arguments("x", "--text-encoder-2", transformer), "this is a transformer in 4 bits; expected a T5"),
            (Drawing.arguments("x", "--transformer", file), "this is a T5 encoder in 4 bits; expected a transformer"),
            (Drawing.arguments("x", "--text-encoder-2", other), "'d_model' is 64, but that of the model's own is 256"),
            (Drawing.arguments("x", "--text-encoder-2", "nowhere.safetensors"), "nowhere.safetensors"),
            (
                Drawing.arguments("x", "--text-encoder-2", Drawing.model + "/vae"),
                "vae/config.json: 'feed_forward_proj'"
            ),
            (["inspect", poisoned, "--verify"], scales),
            (
                ["quantize", model.folder.path, "--component", "text_encoder_2", "--output", "x.safetensors"],
                "a 4-bit T5 encoder already (nibble)"
            ),
        ] {
            let output = arguments[0] == "generate" ? ["--output", "x.png"] : []
            let outcome = try await Tool.nibble(arguments + output, in: scratch.folder)
            #expect(outcome.status == 65, "\(outcome.error)")
            #expect(outcome.error.contains(words), "\(words) in \(outcome.error)")
        }
        #expect(try !scratch.names.contains("x.png"))
    }

    static let refusals: [([String], String)] = [
        (["--transformer", "x"], "give one of them"), (["--activations", "int4"], "--activations: found int4"),
        (["--size", "64"], "--size: found 64"), (["--steps", "4"], "--steps: found 4"),
    ]

    @Test(arguments: refusals)
    func `options of the transformer are refused by name`(_ arguments: [String], _ words: String) async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(Self.arguments(scratch.path("x.safetensors")) + arguments)
        #expect(outcome.status == 64 && outcome.error.contains(words), "\(outcome.error)")
        #expect(try scratch.names == [])
    }

    /// A T5 that fits the embedded model but for its feed-forward layers: 270 MB in 4 bits, every block the same.
    private static func writeLarge(_ path: String) throws {
        let text = try String(contentsOfFile: Drawing.model + "/text_encoder_2/config.json", encoding: .utf8)
        var values = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        (values["d_ff"], values["num_layers"]) = (16_384, 40)
        let configuration = String(decoding: try JSONSerialization.data(withJSONObject: values), as: UTF8.self)
        let schema = try Int4T5Schema(configuration: configuration, path: path)
        var made: [String: [String: Tensor]] = [:]
        for layer in schema.layers.prefix(4) {
            let weights = try #require(Self.weights(layer))
            made[String(layer.name.split(separator: ".")[6])] = weights.kernelOrder()
        }
        func parts(_ layer: Int4Layer) -> [String: Tensor] { made[String(layer.name.split(separator: ".")[6])] ?? [:] }
        let layers = schema.layers.flatMap { layer in
            parts(layer).sorted { $0.key < $1.key }.map {
                TensorDeclaration(name: "\(layer.name).\($0.key)", dtype: $0.value.dtype, shape: $0.value.shape)
            }
        }
        let plain = schema.plain.map { TensorDeclaration(name: $0.name, dtype: .bfloat16, shape: $0.shape) }
        let writer = try NibbleCheckpoint.textEncoderWriter(
            path, layers: layers, plain: plain, configuration: configuration)
        for layer in schema.layers {
            for (key, tensor) in parts(layer) { try writer.write("\(layer.name).\(key)", tensor) }
        }
        let random = RandomWeights(dtype: .bfloat16)
        for (name, shape) in schema.plain { try writer.write(name, random.tensor(name, expecting: shape)) }
        try writer.finish()
    }

    private static func weights(_ layer: Int4Layer) -> Int4Weights? {
        let codes = Tensor(zeros: [layer.outputs, layer.inputs], .int8)
        let bytes = codes.mutableAddress.assumingMemoryBound(to: Int8.self)
        for index in 0..<codes.elementCount { bytes[index] = Int8(index &* 7 % 15) - 7 }
        func constant(_ shape: Shape, _ bits: UInt16) -> Tensor {
            let tensor = Tensor(zeros: shape, .bfloat16)
            let values = tensor.mutableAddress.assumingMemoryBound(to: UInt16.self)
            for index in 0..<shape.elementCount { values[index] = bits }
            return tensor
        }
        let ones = constant([layer.inputs], 0x3f80)
        return Int4Weights(
            // 2^-9: small enough that 40 blocks stay finite.
            codes: codes, scales: constant([layer.outputs, layer.inputs / 64], 0x3b00), smooth: ones,
            originalSmooth: ones, down: constant([0, layer.inputs], 0), up: constant([layer.outputs, 0], 0),
            bias: constant([layer.outputs], 0))
    }

    @Test func `a text encoder larger than memory is read block by block, and draws the same`() async throws {
        let scratch = try Scratch()
        let file = scratch.path("large.safetensors")
        try Self.writeLarge(file)
        let limit = 192 << 20
        #expect(try SafetensorsFile(file).byteCount > limit + limit / 4)
        func draw(_ name: String, _ options: String...) async throws -> Int {
            let outcome = try await Tool.nibble(
                Drawing.arguments("x", "--text-encoder-2", file, "--quiet", "--json", "--output", scratch.path(name))
                    + options)
            #expect(outcome.status == 0, "\(outcome.error)")
            struct Report: Decodable {
                let peak: Int
                enum CodingKeys: String, CodingKey { case peak = "peak_rss_bytes" }
            }
            return try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8)).peak
        }
        let (free, limited) = (try await draw("free.png"), try await draw("limited.png", "--memory", "192M"))
        print("4-bit T5: peak \(free >> 20) MiB, with --memory 192M \(limited >> 20) MiB")
        #expect(free > limit, "the measurement could not fail")
        #expect(limited < limit)
        #expect(try Drawing.bytes(scratch.path("free.png")) == Drawing.bytes(scratch.path("limited.png")))
    }
}
