import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

/// What `nibble bench step` prints for scripts. What it measures depends on the machine, and is not looked at.
@Suite struct BenchTests {
    private static let small = [
        "--width", "32", "--height", "48", "--text-tokens", "8", "--runs", "2", "--warmup", "0", "--threads", "1",
        "--json",
    ]

    private func report(_ arguments: [String]) async throws -> [String: Any] {
        let outcome = try await Tool.nibble(["bench", "step"] + arguments + Self.small)
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

    @Test func `layers that cannot be 4-bit are refused`() async throws {
        let scratch = try Scratch()
        _ = try scratch.write(Self.config.replacing("_heads\": 4", with: "_heads\": 3"), to: "config.json")
        let outcome = try await Tool.nibble(
            ["bench", "step", "--config", scratch.folder.path, "--weights", "int4"] + Self.small)
        #expect(outcome.status == 65 && outcome.error.contains("96 wide") && outcome.error.contains("128"))
    }
}
