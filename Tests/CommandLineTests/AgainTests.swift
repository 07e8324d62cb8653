import Foundation
import NibbleCheckpoints
import NibbleImages
import NibbleTensors
import NibbleTestSupport
import Testing

/// Pictures made again: `generate --like`, and `decode` of latents that were kept.
@Suite struct AgainTests {
    @Test(arguments: ["f32", "bf16"])
    func `like gives the same file`(_ precision: String) async throws {
        let scratch = try Scratch()
        let first = try await Tool.nibble(
            Drawing.arguments(
                "a, b: \"c\"\nd", "--steps", "3", "--guidance", "2.25", "--width", "48", "--precision", precision,
                "--prompt-2", "other", "--round-conditioning", "--output", "out.png"),
            in: scratch.folder)
        let again = try await Tool.nibble(
            ["generate", "--like", "out.png", "--output", "again.png"], in: scratch.folder)
        #expect(first.status == 0 && again.status == 0, "\(again.error)")
        #expect(!again.error.contains("differ"))
        #expect(try Drawing.bytes(scratch.path("out.png")) == Drawing.bytes(scratch.path("again.png")))
    }

    @Test func `options beside like change a part`() async throws {
        let scratch = try Scratch()
        for arguments in [
            Drawing.arguments("red apple", "--output", "out.png"),
            ["generate", "blue cup", "--like", "out.png", "--height", "32", "--output", "changed.png"],
            Drawing.arguments("blue cup", "--height", "32", "--output", "wanted.png"),
        ] {
            let outcome = try await Tool.nibble(arguments, in: scratch.folder)
            #expect(outcome.status == 0, "\(outcome.error)")
        }
        #expect(try Drawing.bytes(scratch.path("changed.png")) == Drawing.bytes(scratch.path("wanted.png")))
    }

    @Test func `the embedded model is found from another folder`() async throws {
        let scratch = try Scratch()
        let repository = URL(filePath: Drawing.model).deletingLastPathComponent().deletingLastPathComponent()
        let arguments = ["generate", "x", "--steps", "1", "--width", "16", "--height", "16", "--seed", "1", "--output"]
        let first = try await Tool.nibble(arguments + [scratch.path("out.png")], in: repository)
        let again = try await Tool.nibble(
            ["generate", "--like", "out.png", "--output", "again.png"], in: scratch.folder)
        #expect(first.status == 0 && again.status == 0, "\(again.error)")
        let (one, other) = (try PNG.read(scratch.path("out.png")), try PNG.read(scratch.path("again.png")))
        #expect(one.bitmap == other.bitmap)
    }

    @Test func `a picture of another transformer is made again with it`() async throws {
        let scratch = try Scratch()
        let model = try ModelCopy(in: scratch)
        try model.edit("transformer/diffusion_pytorch_model.safetensors") { tensors in
            tensors["proj_out.bias"] = tensors["proj_out.bias"].map { Tensor(zeros: $0.shape, $0.dtype) }
        }
        let transformer = model.path("transformer")
        let first = try await Tool.nibble(
            Drawing.arguments("x", "--transformer", transformer, "--output", "out.png"), in: scratch.folder)
        let again = try await Tool.nibble(
            ["generate", "--like", "out.png", "--output", "again.png"], in: scratch.folder)
        let own = try await Tool.nibble(
            ["generate", "--like", "out.png", "--model", Drawing.model, "--output", "own.png"], in: scratch.folder)
        #expect(first.status == 0 && again.status == 0 && own.status == 0, "\(again.error)\(own.error)")
        #expect(try Drawing.bytes(scratch.path("out.png")) == Drawing.bytes(scratch.path("again.png")))
        #expect(try PNG.read(scratch.path("out.png")).bitmap != PNG.read(scratch.path("own.png")).bitmap)
        #expect(own.error.contains("the picture may differ from the original in its bytes: other model"))
    }

    @Test(
        .enabled(if: !GoldenInt4Model.drawable.isEmpty, "no svdq-* goldens with the whole model beside the repository"),
        arguments: GoldenInt4Model.drawable)
    func `a 4-bit picture is made again with its sums`(_ quantized: GoldenInt4Model) async throws {
        let scratch = try Scratch()
        let first = try await Tool.nibble(
            Drawing.arguments(
                "x", model: try #require(quantized.pipeline), "--transformer", quantized.file, "--accumulation",
                "nunchaku", "--output", "out.png"), in: scratch.folder)
        let again = try await Tool.nibble(
            ["generate", "--like", "out.png", "--output", "again.png"], in: scratch.folder)
        let other = try await Tool.nibble(
            ["generate", "--like", "out.png", "--accumulation", "f32", "--output", "other.png"], in: scratch.folder)
        #expect(first.status == 0 && again.status == 0 && other.status == 0, "\(first.error)\(again.error)")
        #expect(try Drawing.bytes(scratch.path("out.png")) == Drawing.bytes(scratch.path("again.png")))
        #expect(try Drawing.texts(scratch.path("again.png"))["nibble"]?.contains("nunchaku") == true)
        #expect(other.error.contains("the picture may differ from the original in its bytes: other precision"))
        let refused = try await Tool.nibble(
            ["generate", "--like", "out.png", "--activations", "int8", "--output", "x.png"], in: scratch.folder)
        #expect(refused.status == 64 && refused.error.contains("--accumulation: found nunchaku"), "\(refused.error)")
    }

    @Test(
        .enabled(if: !GoldenInt4Model.drawable.isEmpty, "no svdq-* goldens with the whole model beside the repository"),
        .enabled(if: Compute.hasInt8Attention, "this instruction set has no attention in bytes"),
        arguments: GoldenInt4Model.drawable)
    func `a 4-bit picture is made again with its attention`(_ quantized: GoldenInt4Model) async throws {
        let scratch = try Scratch()
        let arguments = Drawing.arguments(
            "x", model: try #require(quantized.pipeline), "--transformer", quantized.file, "--precision", "bf16")
        for (name, attention) in [("int8", []), ("bf16", ["--attention", "bf16"])] {
            let first = try await Tool.nibble(
                arguments + attention + ["--output", "\(name).png"], in: scratch.folder)
            let again = try await Tool.nibble(
                ["generate", "--like", "\(name).png", "--output", "again.png"], in: scratch.folder)
            #expect(first.status == 0 && again.status == 0, "\(first.error)\(again.error)")
            #expect(try Drawing.bytes(scratch.path("\(name).png")) == Drawing.bytes(scratch.path("again.png")))
            let isRecorded = try Drawing.texts(scratch.path("\(name).png"))["nibble"]?.contains(#""attention":"int8""#)
            #expect(isRecorded == (name == "int8"))
        }
        let other = try await Tool.nibble(
            ["generate", "--like", "int8.png", "--attention", "bf16", "--output", "other.png"], in: scratch.folder)
        #expect(other.error.contains("the picture may differ from the original in its bytes: other precision"))
        // In f32 attention is f32, whatever the picture says.
        let exact = try await Tool.nibble(
            ["generate", "--like", "int8.png", "--precision", "f32", "--output", "f32.png"], in: scratch.folder)
        #expect(exact.status == 0, "\(exact.error)")
        let refused = try await Tool.nibble(
            arguments + ["--attention", "int8", "--precision", "f32", "--output", "x.png"], in: scratch.folder)
        #expect(refused.status == 64 && refused.error.contains("--attention: found int8 in f32"), "\(refused.error)")
    }

    /// Latents as `generate` keeps them, of a 32 × 16 picture.
    static func latents(
        _ path: String, shape: Shape = [16, 2, 4], record: String? = nil, dtype: DType = .float32
    ) throws {
        let values = (0..<shape.elementCount).map { Float($0 % 7) / 4 - 0.75 }
        let tensor =
            dtype == .float32
            ? Tensor(values, shape: shape)
            : Tensor(storage: Storage(byteCount: shape.elementCount * dtype.byteSize), shape: shape, dtype: dtype)
        let standard = """
            {"format":1,"prompt":"p","seed":"3","steps":9,"width":32,"height":16,"max_sequence_length":8,
            "precision":"f32","model":"\(Drawing.model)","nibble_version":"0","instruction_set":"plain",
            "rounds_conditioning":false}
            """
        try SafetensorsWriter.write(["latents": tensor], to: path, metadata: ["nibble": record ?? standard])
    }

    @Test func `decode finishes a picture, with its record`() async throws {
        let scratch = try Scratch()
        try Self.latents(scratch.path("kept.safetensors"))
        let outcome = try await Tool.nibble(["decode", "kept.safetensors", "--output", "out.png"], in: scratch.folder)
        #expect(outcome.status == 0 && outcome.output == "", "\(outcome.error)")
        #expect(outcome.error.contains("out.png  seed 3, 32 × 16"))
        let picture = try PNG.read(scratch.path("out.png"))
        #expect(picture.bitmap.width == 32 && picture.bitmap.height == 16)
        let texts = try Drawing.texts(scratch.path("out.png"))
        #expect(try #require(texts["parameters"]).hasPrefix("p\nSteps: 9,"))
        let second = try await Tool.nibble(
            ["decode", "kept.safetensors", "--output", "again.png", "--quiet", "--json"], in: scratch.folder)
        #expect(second.status == 0 && second.error == "")
        #expect(try JSONSerialization.jsonObject(with: Data(second.output.utf8)) is [String: Any])
        #expect(try Drawing.bytes(scratch.path("out.png")) == Drawing.bytes(scratch.path("again.png")))
    }

    @Test func `latents that are none are refused with a reason`() async throws {
        let scratch = try Scratch()
        try Self.latents(scratch.path("shape.safetensors"), shape: [16, 2, 2])
        try Self.latents(scratch.path("type.safetensors"), dtype: .int32)
        try Self.latents(scratch.path("record.safetensors"), record: "{}")
        let tensor = Tensor(zeros: [1], .float32)
        try SafetensorsWriter.write(["latents": tensor], to: scratch.path("none.safetensors"))
        try SafetensorsWriter.write(["x": tensor], to: scratch.path("other.safetensors"), metadata: ["nibble": "{}"])
        for (name, words) in [
            ("shape", ["'latents'", "[16, 2, 2]", "[16, 2, 4]"]), ("type", ["'latents'", "I32", "F32"]),
            ("record", ["nibble", "format"]), ("none", ["nibble", "metadata"]), ("other", ["'latents'", "missing"]),
        ] {
            let outcome = try await Tool.nibble(
                ["decode", "\(name).safetensors", "--output", "out.png"], in: scratch.folder)
            #expect(outcome.status == 65, "\(name)")
            for word in ["error: \(name).safetensors"] + words {
                #expect(outcome.error.contains(word), "\(word) in: \(outcome.error)")
            }
        }
    }
}
