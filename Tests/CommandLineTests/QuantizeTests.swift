import Foundation
import NibbleCheckpoints
import NibbleTensors
import Testing

/// `nibble quantize` as a script runs it, on the embedded model with a recipe of seconds.
@Suite struct QuantizeTests {
    private static func arguments(_ output: String, _ more: String...) -> [String] {
        [
            "quantize", Drawing.model, "--output", output, "--samples", "3", "--steps", "2", "--size", "64", "--grid",
            "3",
            "--iterations", "2", "--tokens", "64", "--quiet",
        ] + more
    }

    private static func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }

    @Test func `killed anywhere, it goes on and ends in the same bytes`() async throws {
        let scratch = try Scratch()
        let (whole, broken) = (scratch.path("whole.safetensors"), scratch.path("broken.safetensors"))
        let unbroken = try await Tool.nibble(Self.arguments(whole))
        #expect(unbroken.status == 0, "\(unbroken.error)")
        // Three moments anywhere in the run; each later run begins where the one before it was killed.
        let moments = (0..<3).map { _ in Double.random(in: 0.02...0.9) }
        for moment in moments {
            let outcome = try await Tool.nibble(Self.arguments(broken)) { process in
                Thread.sleep(forTimeInterval: moment * unbroken.seconds)
                kill(process.processIdentifier, SIGKILL)
            }
            #expect([137, 0].contains(outcome.status), "killed after \(moment) of the run: \(outcome.error)")
        }
        // Killed after the file was in its place, what is left is the journal.
        if try scratch.names.contains("broken.safetensors.journal") || !FileManager.default.fileExists(atPath: broken) {
            let last = try await Tool.nibble(Self.arguments(broken))
            #expect(last.status == 0, "\(last.error)")
        }
        #expect(try Self.bytes(whole) == Self.bytes(broken), "killed after \(moments) of \(unbroken.seconds) s")
        #expect(try scratch.names.filter { !$0.hasSuffix(".json") } == ["broken.safetensors", "whole.safetensors"])
    }

    @Test func `two workers give the bytes of one, whatever the threads`() async throws {
        let scratch = try Scratch()
        let (one, two) = (scratch.path("one.safetensors"), scratch.path("two.safetensors"))
        async let alone = Tool.nibble(Self.arguments(one, "--threads", "1"))
        async let first = Tool.nibble(Self.arguments(two, "--worker", "1/2", "--threads", "2"))
        async let second = Tool.nibble(Self.arguments(two, "--worker", "2/2", "--threads", "2"))
        for outcome in try await [alone, first, second] { #expect(outcome.status == 0, "\(outcome.error)") }
        #expect(try Self.bytes(one) == Self.bytes(two))
    }

    @Test func `every form is what converting makes of Nunchaku's`() async throws {
        let scratch = try Scratch()
        let forms = ["nunchaku": "n.safetensors", "nibble": "b.safetensors", "nunchaku-lite": "lite"]
        for (form, name) in forms {
            let made = try await Tool.nibble([
                "quantize", Drawing.model, "--preset", "data-free", "-q", "--format", form, "-o", scratch.path(name),
            ])
            #expect(made.status == 0, "\(form): \(made.error)")
        }
        for (form, name, file) in [
            ("nibble", "b2.safetensors", ""), ("nunchaku-lite", "lite2", "/diffusion_pytorch_model.safetensors"),
        ] {
            let converted = try await Tool.nibble([
                "convert", scratch.path("n.safetensors"), "--to", form, "-o", scratch.path(name), "-q",
            ])
            #expect(converted.status == 0, "\(form): \(converted.error)")
            #expect(
                try Self.bytes(scratch.path(name) + file) == Self.bytes(scratch.path(forms[form] ?? "") + file),
                "\(form)")
        }
        #expect(try scratch.names.filter { $0.hasSuffix(".journal") } == [])
    }

    @Test func `a share leaves the rest, and the rest completes it`() async throws {
        let scratch = try Scratch()
        let output = scratch.path("model.safetensors")
        let share = try await Tool.nibble(Self.arguments(output, "--blocks", "0-1").filter { $0 != "--quiet" })
        #expect(share.status == 0, "\(share.error)")
        #expect(share.error.contains("blocks 2, 3, 4, 5 are left to others"), "\(share.error)")
        #expect(try scratch.names == ["model.safetensors.journal"])
        let rest = try await Tool.nibble(Self.arguments(output, "--json"))
        #expect(rest.status == 0, "\(rest.error)")
        struct Report: Decodable {
            struct Layer: Decodable {
                let name: String
                let naive_error, error: Float
            }
            let layers: [Layer]
        }
        let report = try JSONDecoder().decode(Report.self, from: Data(rest.output.utf8))
        // 2 double blocks of 8 layers, 4 single ones of 4; and their modulations, 2 and 1 in a block.
        #expect(report.layers.count == 32)
        for layer in report.layers { #expect(layer.error > 0 && layer.error < layer.naive_error, "\(layer)") }
        let checkpoint = try NunchakuCheckpoint(output)
        try checkpoint.verifyLayers(on: ThreadPool())
        #expect(checkpoint.layers.count == 40)
    }

    @Test func `other arguments are refused, and the journal survives`() async throws {
        let scratch = try Scratch()
        let output = scratch.path("model.safetensors")
        let begun = try await Tool.nibble(Self.arguments(output, "--blocks", "0"))
        #expect(begun.status == 0, "\(begun.error)")
        let journal = scratch.folder.appending(path: "model.safetensors.journal")
        let before = try FileManager.default.contentsOfDirectory(atPath: journal.path).sorted()
        let other = try await Tool.nibble(Self.arguments(output, "--rank", "16"))
        #expect(other.status == 65)
        #expect(other.error.contains("begun with rank 32, not 16"), "\(other.error)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: journal.path).sorted() == before)
    }

    @Test func `a model that gives NaN is told by block and layer`() async throws {
        let scratch = try Scratch()
        let model = try ModelCopy(in: scratch)
        try model.poison(
            "transformer_blocks.1.attn.to_out.0.weight", in: "transformer/diffusion_pytorch_model.safetensors")
        let outcome = try await Tool.nibble([
            "quantize", model.folder.path, "--output", scratch.path("x.safetensors"), "--preset", "data-free",
            "--quiet",
        ])
        #expect(outcome.status == 65)
        #expect(outcome.error.contains("transformer_blocks.1.out_proj"), "\(outcome.error)")
    }

    @Test func `activations that overflow are told by block and layer`() async throws {
        let scratch = try Scratch()
        let model = try ModelCopy(in: scratch)
        // Finite weights whose product with any input is not.
        try model.edit("transformer/diffusion_pytorch_model.safetensors") { tensors in
            let name = "single_transformer_blocks.2.proj_mlp.weight"
            let original = try #require(tensors[name])
            tensors[name] = Tensor([Float](repeating: 3e38, count: original.elementCount), shape: original.shape)
        }
        let output = scratch.path("x.safetensors")
        let arguments = Self.arguments(output).map { $0 == Drawing.model ? model.folder.path : $0 }
        let outcome = try await Tool.nibble(arguments)
        #expect(outcome.status == 65)
        #expect(outcome.error.contains("first in 'single.2.mlp_fc2.x'"), "\(outcome.error)")
        #expect(!FileManager.default.fileExists(atPath: output))
    }

    @Test func `what is no 16-bit FLUX is refused for what it is`() async throws {
        let scratch = try Scratch()
        let output = scratch.path("model.safetensors")
        let made = try await Tool.nibble(["quantize", Drawing.model, "-o", output, "--preset", "data-free", "-q"])
        #expect(made.status == 0, "\(made.error)")
        let again = try await Tool.nibble([
            "quantize", Drawing.model, "--transformer", output, "-o", scratch.path("again.safetensors"), "-q",
        ])
        #expect(again.status == 65 && again.error.contains("a 4-bit transformer already"), "\(again.error)")
        try FileManager.default.createDirectory(atPath: scratch.path("other"), withIntermediateDirectories: true)
        try scratch.write(#"{"_class_name": "StableDiffusionPipeline"}"#, to: "other/model_index.json")
        let other = try await Tool.nibble(["quantize", scratch.path("other"), "-o", output, "-q"])
        #expect(other.status == 65 && other.error.contains("StableDiffusionPipeline"), "\(other.error)")
    }

    @Test func `without data it takes seconds, and the file draws`() async throws {
        let scratch = try Scratch()
        let output = scratch.path("model.safetensors")
        let made = try await Tool.nibble([
            "quantize", Drawing.model, "--output", output, "--preset", "data-free", "--quiet",
        ])
        #expect(made.status == 0, "\(made.error)")
        let drawn = try await Tool.nibble(
            Drawing.arguments("red apple", "--transformer", output, "--output", "x.png"), in: scratch.folder)
        #expect(drawn.status == 0, "\(drawn.error)")
    }

    static let refusals: [([String], Int32, String)] = [
        ([], 64, "--output"), (["--output", "x.bin"], 64, "x.bin"), (["--rank", "20"], 64, "--rank: found 20"),
        (["--preset", "slow"], 64, "slow"), (["--worker", "3/2"], 64, "--worker: found '3/2'"),
        (["--worker", "0/2"], 64, "0/2"), (["--blocks", "3-1"], 64, "--blocks: found '3-1'"),
        (["--blocks", "0-9"], 64, "blocks 0-5"), (["--worker", "1/2", "--blocks", "1"], 64, "give one of them"),
        (["--samples", "0"], 64, "--smoothing: found search with 0 samples"),
        (["--prompts", "nowhere.txt"], 65, "nowhere.txt: cannot be read"),
        (["--recipe", "nowhere.yaml"], 65, "nowhere.yaml: there is no such file"),
        (["--memory", "1M"], 65, "MiB"), (["--format", "nunchaku-lite"], 64, "expected a folder"),
        (["--format", "nunchaku", "--component", "text_encoder_2"], 64, "--format: found nunchaku"),
    ]

    @Test(arguments: refusals)
    func `bad arguments are refused by name, and nothing is begun`(
        _ arguments: [String], _ status: Int32, _ words: String
    ) async throws {
        let scratch = try Scratch()
        let hasOutput = arguments.contains("--output") || arguments.isEmpty
        let all = ["quantize", Drawing.model] + arguments + (hasOutput ? [] : ["--output", "x.safetensors"])
        let outcome = try await Tool.nibble(all + ["--quiet"], in: scratch.folder)
        #expect(outcome.status == status, "\(outcome.error)")
        #expect(outcome.error.contains(words), "\(outcome.error)")
        #expect(try scratch.names.filter { !$0.hasSuffix(".journal") } == [])
    }

    @Test(arguments: ["", "\n# only a remark\n\n"])
    func `prompts that are none are said`(_ text: String) async throws {
        let scratch = try Scratch()
        let path = try scratch.write(text, to: "prompts.txt")
        let outcome = try await Tool.nibble(Self.arguments(scratch.path("x.safetensors"), "--prompts", path))
        #expect(outcome.status == 65 && outcome.error.contains("holds no prompt"), "\(outcome.error)")
    }

    @Test func `a recipe is printed, read, and refused where it is wrong`() async throws {
        let scratch = try Scratch()
        let printed = try await Tool.nibble(["quantize", "--preset", "full", "--print-recipe"])
        #expect(printed.status == 0 && printed.output.contains("gptq: true"), "\(printed.error)")
        let path = try scratch.write(printed.output, to: "recipe.yaml")
        let again = try await Tool.nibble(["quantize", "--recipe", path, "--rank", "64", "--print-recipe"])
        #expect(again.output == printed.output.replacing("rank: 32", with: "rank: 64"), "\(again.error)")
        for (text, words) in [("rnak: 3\n", "'rnak'"), ("rank: many\n", "'rank'"), ("a: b: c", "no recipe")] {
            let wrong = try scratch.write(text, to: "wrong.yaml")
            let outcome = try await Tool.nibble(["quantize", "--recipe", wrong, "--output", "x.safetensors"])
            #expect(outcome.status == 65 && outcome.error.contains(words), "\(outcome.error)")
        }
    }

    @Test func `a full disk leaves the journal`() async throws {
        let scratch = try Scratch()
        let output = scratch.path("model.safetensors")
        // 4 MiB: the first blocks' files fit, a later one or the whole does not.
        let line = Self.arguments(output).map { "'\($0)'" }.joined(separator: " ")
        let outcome = try await Tool.shell("ulimit -f 1024; trap '' XFSZ; \"$NIBBLE\" \(line)")
        #expect(outcome.status == 65 && outcome.error.contains("no space is left"), "\(outcome.error)")
        let last = try await Tool.nibble(Self.arguments(output))
        #expect(last.status == 0, "\(last.error)")
    }
}
