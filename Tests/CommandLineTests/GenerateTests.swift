import Foundation
import NibbleImages
import NibbleTestSupport
import Testing

/// `nibble generate`, in the forms that scripts rely on.
@Suite struct GenerateTests {
    /// The exact form, word for word.
    static func exactForm(model: String, precision: String, output: String) -> [String] {
        [
            "generate", "red apple", "--model", model, "--seed", "7", "--steps", "4", "--guidance", "3.5", "--width",
            "64",
            "--height", "64", "--max-sequence-length", "32", "--precision", precision, "--output", output,
        ]
    }

    @Test(arguments: ["f32", "bf16"])
    func `the exact form draws, and twice the same bytes on one thread and two`(_ precision: String) async throws {
        let scratch = try Scratch()
        var files: [Data] = []
        for threads in [nil, "1", "2"] {
            let path = scratch.path("out-\(threads ?? "").png")
            let arguments = Self.exactForm(model: Drawing.model, precision: precision, output: path)
            let outcome = try await Tool.nibble(arguments + (threads.map { ["--threads", $0] } ?? []))
            #expect(outcome.status == 0 && outcome.output == "")
            files.append(try Drawing.bytes(path))
        }
        #expect(files.count == 3 && files.allSatisfy { $0 == files[0] })
        let picture = try PNG.read(scratch.path("out-.png"))
        #expect(picture.bitmap.width == 64 && picture.bitmap.height == 64)
        // An apple on white paper: not one color, and more red than green and blue together above it.
        #expect(Set(picture.bitmap.pixels).count > 16)
        let texts = try Drawing.texts(scratch.path("out-.png"))
        #expect(Set(texts.keys) == ["parameters", "nibble"])
        let parameters = try #require(texts["parameters"])
        #expect(parameters.hasPrefix("red apple\nSteps: 4, "))
        #expect(parameters.contains("Distilled CFG Scale: 3.5") && parameters.contains("Seed: 7, Size: 64x64"))
        let json = try #require(texts["nibble"])
        let record = try #require(JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        #expect(record["prompt"] as? String == "red apple" && record["seed"] as? String == "7")
        #expect(record["precision"] as? String == precision && record["max_sequence_length"] as? Int == 32)
    }

    /// The first case of each golden model, drawn by the program.
    static let goldenCases = Goldens.fluxModels.compactMap { folder in
        GoldenCase.all(of: folder).first.map { (folder, $0) }
    }

    @Test(arguments: goldenCases)
    func `f32 is diffusers' picture`(_ folder: URL, _ golden: GoldenCase) async throws {
        let scratch = try Scratch()
        let path = scratch.path("out.png")
        let outcome = try await Tool.nibble(
            [
                "generate", golden.prompt, "--model", folder.appending(path: "model").path, "--seed", golden.seed,
                "--steps",
                "\(golden.steps)", "--guidance", "\(golden.guidance)", "--width", "\(golden.width)", "--height",
                "\(golden.height)", "--max-sequence-length", "\(golden.maxSequenceLength)", "--precision", "f32",
                "--output",
                path,
            ] + (golden.prompt2.map { ["--prompt-2", $0] } ?? []))
        #expect(outcome.status == 0, "\(outcome.error)")
        let expected = try GoldenTensors(folder.appending(path: "golden/\(golden.file)")).integers("image_u8")
        let found = try PNG.read(path).bitmap.pixels.map { Int($0) }
        // diffusers in f64 moves single bytes by 1 too: a value lies near the middle between two.
        #expect(found.count == expected.count && zip(found, expected).allSatisfy { abs($0 - $1) <= 1 })
    }

    @Test func `several pictures have the seeds that follow, each as if drawn alone`() async throws {
        let scratch = try Scratch()
        let several = try await Tool.nibble(
            Drawing.arguments("red apple", "--count", "2", "--output", "pair.of.png", "--quiet"), in: scratch.folder)
        let alone = try await Tool.nibble(
            Drawing.arguments("red apple", "--seed", "8", "--output", "alone.png", "--quiet"), in: scratch.folder)
        #expect(several.status == 0 && alone.status == 0)
        #expect(try scratch.names == ["alone.png", "pair.of-1.png", "pair.of-2.png"])
        #expect(try Drawing.bytes(scratch.path("pair.of-2.png")) == Drawing.bytes(scratch.path("alone.png")))
        #expect(try Drawing.bytes(scratch.path("pair.of-1.png")) != Drawing.bytes(scratch.path("alone.png")))
    }

    @Test func `without a name the picture is called after its seed`() async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(Drawing.arguments(), in: scratch.folder)
        #expect(outcome.status == 0)
        #expect(try scratch.names == ["nibble-7.png"])
        #expect(outcome.error.contains("nibble-7.png  seed 7, 16 × 16"))
    }

    @Test func `without a seed each picture is another, and its name tells the seed`() async throws {
        let scratch = try Scratch()
        for _ in 0..<2 {
            let outcome = try await Tool.nibble(
                ["generate", "x", "--steps", "1", "--width", "16", "--height", "16"], in: scratch.folder)
            #expect(outcome.status == 0)
        }
        let names = try scratch.names
        #expect(names.count == 2)
        for name in names {
            let seed = try #require(name.wholeMatch(of: /nibble-(\d+)\.png/)).1
            #expect(try #require(Drawing.texts(scratch.path(name))["parameters"]).contains("Seed: \(seed),"))
        }
    }

    @Test func `without a model the one of the repository draws, in its own size`() async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(
            ["generate", "x", "--steps", "1", "--seed", "1", "--output", "x.png"], in: scratch.folder)
        #expect(outcome.status == 0, "\(outcome.error)")
        struct Autoencoder: Decodable {
            let side: Int
            enum CodingKeys: String, CodingKey { case side = "sample_size" }
        }
        let config = try JSONDecoder().decode(
            Autoencoder.self, from: Drawing.bytes(Drawing.model + "/vae/config.json"))
        let bitmap = try PNG.read(scratch.path("x.png")).bitmap
        #expect(bitmap.width == config.side && bitmap.height == config.side)
    }

    @Test func `a name without an ending is taken as it is`() async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(Drawing.arguments("x", "--output", "picture"), in: scratch.folder)
        #expect(outcome.status == 0)
        #expect(try PNG.read(scratch.path("picture")).bitmap.width == 16)
    }

    @Test func `json is one object on standard output, with progress on standard error`() async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(
            Drawing.arguments("red apple", "--count", "2", "--json", "--output", "x.png"), in: scratch.folder)
        #expect(outcome.status == 0 && outcome.error.contains("x-2.png"))
        // Fails on anything after the object.
        let report = try #require(
            JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
        #expect(Set(report.keys) == ["pictures", "seconds", "seconds_per_step", "peak_rss_bytes"])
        let pictures = try #require(report["pictures"] as? [[String: Any]])
        #expect(pictures.compactMap { $0["path"] as? String } == ["x-1.png", "x-2.png"])
        let record = try #require(pictures.last?["record"] as? [String: Any])
        #expect(record["seed"] as? String == "8" && record["width"] as? Int == 16)
        #expect(try #require(report["peak_rss_bytes"] as? Int) > 1_000_000)
    }

    @Test func `quiet is quiet`() async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(Drawing.arguments("x", "-q", "-o", "x.png"), in: scratch.folder)
        #expect(outcome.status == 0 && outcome.error == "" && outcome.output == "")
    }

    @Test(arguments: ["", String(repeating: "a very long prompt ", count: 5400)])
    func `empty and 100 kB prompts draw`(_ prompt: String) async throws {
        let scratch = try Scratch()
        let outcome = try await Tool.nibble(Drawing.arguments(prompt, "--output", "x.png"), in: scratch.folder)
        #expect(outcome.status == 0, "\(outcome.error)")
        #expect(try #require(Drawing.texts(scratch.path("x.png"))["nibble"]).utf8.count > prompt.utf8.count)
    }

    @Test func `a prompt on disk that looks like an option is given after two dashes`() async throws {
        let scratch = try Scratch()
        let arguments = Drawing.arguments("x", "--output", "x.png").filter { $0 != "x" } + ["--", "--seed"]
        let outcome = try await Tool.nibble(arguments, in: scratch.folder)
        #expect(outcome.status == 0, "\(outcome.error)")
        #expect(try #require(Drawing.texts(scratch.path("x.png"))["parameters"]).hasPrefix("--seed\n"))
    }
}
