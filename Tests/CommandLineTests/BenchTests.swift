import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

/// What `nibble bench` and `nibble profile` print for scripts. What it measures depends on the machine, and is not looked at.
@Suite struct BenchTests {
    private static let small = [
        "--width", "32", "--height", "48", "--text-tokens", "8", "--runs", "2", "--warmup", "0", "--threads", "1",
        "--json",
    ]

    private func report(_ arguments: [String]) async throws -> [String: Any] {
        try await reportOf(["bench", "step"] + arguments + Self.small)
    }

    private func reportOf(_ arguments: [String]) async throws -> [String: Any] {
        let outcome = try await Tool.nibble(arguments)
        #expect(outcome.status == 0 && outcome.error == "", "\(outcome.error)")
        return try #require(JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
    }

    private func expectFigures(_ report: [String: Any], precision: String, macs: Double?) {
        #expect(report["precision"] as? String == precision && report["threads"] as? Int == 1)
        #expect((report["times"] as? [Double])?.count == 2)
        for name in ["seconds", "gmacs"] { #expect((report[name] as? Double ?? 0) > 0, "\(name)") }
        for name in ["limit_gmacs", "fraction"] { #expect((report[name] as? Double ?? -1) >= 0, "\(name)") }
        #expect((report["peak_rss_bytes"] as? Int ?? 0) > 1 << 20)
        if let macs { #expect(report["macs"] as? Double == macs) }
    }

    private static let config = """
        {"attention_head_dim": 32, "num_attention_heads": 4, "axes_dims_rope": [8, 12, 12], "in_channels": 64,
        "joint_attention_dim": 64, "pooled_projection_dim": 48, "guidance_embeds": true}
        """

    @Test(arguments: ["f32", "bf16", "int4"], ["int4", "int8"])
    func `a step of random weights`(_ weights: String, _ activations: String) async throws {
        let scratch = try Scratch()
        _ = try scratch.write(Self.config, to: "config.json")
        let report = try await report([
            "--config", scratch.folder.path, "--double", "1", "--single", "2", "--weights", weights, "--activations",
            activations,
        ])
        // 6 image and 8 text tokens, hidden 128: 12 hidden² + 2 · tokens · hidden for each token and block; modulations
        // of 12, 3, 3 and 2 times hidden²; 64 channels in, 64 out, 64 of the text.
        let blocks = 3 * 14 * (12 * 128 * 128 + 2 * 14 * 128)
        let others = 20 * 128 * 128 + 128 * (6 * 128 + 8 * 64)
        expectFigures(report, precision: weights == "int4" ? "int8" : weights, macs: Double(blocks + others))
    }

    @Test(
        .enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"),
        arguments: GoldenInt4Model.all)
    func `a step of a 4-bit file`(_ model: GoldenInt4Model) async throws {
        let report = try await report(["--transformer", model.file, "--activations", "int8"])
        expectFigures(report, precision: "int8", macs: nil)
        #expect((report["name"] as? String)?.contains("int8 activations") == true)
    }

    @Test(.enabled(if: Compute.hasInt8Attention, "this instruction set has no attention in bytes"))
    func `attention in bytes`() async throws {
        let arguments = [
            "bench", "attention", "--tokens", "70", "--heads", "3", "--runs", "2", "--json", "--attention", "int8",
        ]
        for headDim in ["16", "5"] {
            let outcome = try await Tool.nibble(arguments + ["--head-dim", headDim])
            let report = try #require(JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
            #expect(report["precision"] as? String == "int8" && outcome.status == 0)
        }
        let refused = try await Tool.nibble(arguments + ["--precision", "f32"])
        #expect(refused.status == 64 && refused.error.contains("--attention: found int8 in f32"), "\(refused.error)")
        let scratch = try Scratch()
        _ = try scratch.write(Self.config, to: "config.json")
        let step = try await report([
            "--config", scratch.folder.path, "--double", "1", "--single", "1", "--weights", "bf16", "--attention",
            "int8",
        ])
        #expect((step["name"] as? String)?.contains("int8 attention") == true)
    }

    // MARK: - Profile

    /// The operations' shares and multiply-adds are the step's, which is counted by its formula; what embeds timestep,
    /// guidance and pooled text is in no formula.
    @Test(arguments: ["bf16", "int4"])
    func `a profile adds up to the step`(_ weights: String) async throws {
        let scratch = try Scratch()
        _ = try scratch.write(Self.config, to: "config.json")
        let report = try await reportOf(
            ["profile", "--config", scratch.folder.path, "--double", "1", "--single", "2", "--weights", weights]
                + ["--trace", scratch.path("trace.json")] + Self.small)
        expectFigures(report, precision: weights == "int4" ? "int8" : weights, macs: nil)
        let operations = try #require(report["operations"] as? [[String: Any]])
        func sum(_ key: String) -> Double { operations.reduce(0) { $0 + ($1[key] as? Double ?? 0) } }
        let between = try #require(report["between_seconds"] as? Double)
        let share = try #require(report["between_share"] as? Double)
        // Sums of a dozen doubles.
        #expect(abs(sum("share") + share - 1) < 1e-9)
        let seconds = try #require(report["seconds"] as? Double)
        // The recorded step lies inside the measured one, which begins and ends a few clock readings away.
        #expect(sum("seconds") + between <= seconds && between >= 0)
        let embeddings = 128 * (2 * (256 + 128) + 48 + 128)
        #expect(sum("macs") == (report["macs"] as? Double ?? 0) + Double(embeddings))
        let names = operations.compactMap { $0["name"] as? String }
        let expected = [
            "attention", "attention: pack", "layer norm", "gated add", "SiLU", "product", "row product",
        ]
        let quantized = weights == "int4" ? ["quantize", "4-bit product", "4-bit row product"] : []
        // Attention in bytes does it as it reads its inputs.
        let norms = weights == "int4" && Compute.hasInt8Attention ? [] : ["head norm and rotation"]
        for name in expected + quantized + norms { #expect(names.contains(name), "\(name) in \(names)") }
        let trace = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: scratch.path("trace.json"))))
        let events = try #require((trace as? [String: Any])?["traceEvents"] as? [[String: Any]])
        let stages = events.filter { $0["cat"] as? String == "stage" }.compactMap { $0["name"] as? String }
        #expect(stages.sorted() == ["double block", "single block", "single block", "step"])
    }

    @Test func `the last line of a profile is what no operation covers`() async throws {
        let scratch = try Scratch()
        _ = try scratch.write(Self.config, to: "config.json")
        let options = ["--config", scratch.folder.path, "--double", "1", "--single", "1"] + Self.small.dropLast()
        let outcome = try await Tool.nibble(["profile"] + options)
        let lines = outcome.output.split(separator: "\n")
        #expect(outcome.status == 0 && lines.count > 8, "\(outcome.error)")
        #expect(lines.dropFirst().first?.hasPrefix("operation") == true)
        #expect(lines.last?.hasPrefix("between operations") == true)
    }

    // MARK: - Whole pictures

    @Test(arguments: [1, 3])
    func `a picture tells of its phases`(_ steps: Int) async throws {
        let report = try await reportOf([
            "bench", "picture", "--model", Drawing.model, "--width", "32", "--height", "16", "--max-sequence-length",
            "8",
            "--steps", "\(steps)", "--threads", "1", "--json",
        ])
        let phases = try #require(report["phases"] as? [[String: Any]])
        #expect(
            phases.compactMap { $0["name"] as? String } == ["opening", "text_encoders", "denoising", "decoding", "png"])
        for phase in phases {
            #expect((phase["seconds"] as? Double ?? 0) > 0 && (phase["peak_rss_bytes"] as? Int ?? 0) > 1 << 20)
        }
        let seconds = try #require(report["seconds"] as? Double)
        let sum = phases.reduce(0) { $0 + ($1["seconds"] as? Double ?? 0) }
        #expect(abs(sum - seconds) <= 1e-9 * seconds)
        let first = try #require(report["seconds_to_first_step"] as? Double)
        #expect(first > 0 && first < seconds)
        let times = try #require(report["times"] as? [Double])
        #expect(times.count == steps && times.allSatisfy { $0 > 0 } && times.reduce(0, +) < seconds)
        #expect(report["seconds_per_step"] as? Double == times.min())
        // 2 image and 8 text tokens through 6 blocks of width 256 and their modulations (2 double, 4 single), 64 channels
        // in and out, a T5 of width 256.
        let blocks = 6 * 10 * (12 * 256 * 256 + 2 * 10 * 256) + 256 * 256 * (12 * 2 + 3 * 4 + 2)
        #expect(report["macs"] as? Double == Double(blocks + 256 * (2 * 128 + 8 * 256)))
        for name in ["gmacs", "limit_gmacs", "fraction", "peak_rss_mib"] {
            #expect((report[name] as? Double ?? -1) >= 0, "\(name)")
        }
        #expect((report["peak_rss_bytes"] as? Int ?? 0) == phases.compactMap { $0["peak_rss_bytes"] as? Int }.max())
    }

    @Test func `opening a model`() async throws {
        let report = try await reportOf([
            "bench", "load", "--model", Drawing.model, "--threads", "1", "--runs", "2", "--json",
        ])
        #expect((report["times"] as? [Double])?.count == 2 && (report["page_faults"] as? [Int])?.count == 2)
        #expect(report["seconds"] as? Double == (report["times"] as? [Double])?.min())
        for name in ["mapped_bytes", "resident_bytes", "peak_rss_bytes"] {
            #expect((report[name] as? Int ?? 0) > 1 << 20, "\(name)")
        }
        #expect(report["owned_bytes"] as? Int == 0 && report["fraction"] == nil)
        #expect((report["limit_gbytes_per_second"] as? Double ?? 0) > 0)
    }

    @Test(arguments: [
        (["bench", "picture", "--steps", "0"], 64, "--steps: found 0"),
        (["bench", "picture", "--width", "17"], 64, "--width: found 17"),
        (["bench", "picture", "--model", "nowhere"], 65, "nowhere"),
        (["bench", "load", "--model", "nowhere"], 65, "nowhere"),
        (["bench", "load", "--runs", "0"], 64, "--runs: found 0"),
        (["profile", "--inputs", "nowhere"], 64, "--transformer"),
        (["profile", "--width", "1"], 64, "--width: found 1"),
        (
            ["profile", "--transformer", "nowhere", "--trace", "absent/trace.json"], 65,
            "absent/trace.json: there is no folder"
        ),
        (["bench", "step", "--output", "/"], 65, "is a folder; name a file, such as /prediction.f32"),
    ])
    func `what cannot be is refused`(_ arguments: [String], _ status: Int32, _ words: String) async throws {
        let outcome = try await Tool.nibble(arguments)
        #expect(outcome.status == status && outcome.output == "", "\(outcome.status)")
        #expect(outcome.error.hasPrefix("error: ") && outcome.error.contains(words), "\(outcome.error)")
    }

    @Test func `layers that cannot be 4-bit are refused`() async throws {
        let scratch = try Scratch()
        _ = try scratch.write(Self.config.replacing("_heads\": 4", with: "_heads\": 3"), to: "config.json")
        let outcome = try await Tool.nibble(
            ["bench", "step", "--config", scratch.folder.path, "--weights", "int4"] + Self.small)
        #expect(outcome.status == 65 && outcome.error.contains("96 wide") && outcome.error.contains("128"))
    }
}
