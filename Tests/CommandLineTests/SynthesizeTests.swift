import Foundation
import Testing

/// `nibble synthesize`.
@Suite struct SynthesizeTests {
    @Test func `a synthesized model is drawn with and inspected as any other`() async throws {
        let scratch = try Scratch()
        let made = try await Tool.nibble(["synthesize", Drawing.model, "--output", scratch.path("made")])
        #expect(made.status == 0, "\(made.error)")
        #expect(made.output == "" && made.error.contains("100% "), "\(made.error)")
        let drawn = try await Tool.nibble(
            Drawing.arguments("x", model: scratch.path("made"), "--output", scratch.path("x.png")))
        #expect(drawn.status == 0, "\(drawn.error)")
        let inspected = try await Tool.nibble(["inspect", scratch.path("made"), "--verify", "--quiet"])
        #expect(inspected.status == 0 && inspected.output.contains("nibble, T5 encoder"), "\(inspected.error)")
    }

    @Test func `quiet says nothing`() async throws {
        let scratch = try Scratch()
        let made = try await Tool.nibble(
            ["synthesize", Drawing.model, "-o", scratch.path("made"), "--format", "bf16", "--seed", "4", "--quiet"])
        #expect(made.status == 0 && made.output == "" && made.error == "")
    }

    @Test func `what cannot be is said`() async throws {
        let scratch = try Scratch()
        for (arguments, status, text) in [
            ([Drawing.model], 64, "--output"), ([Drawing.model, "-o", "x", "--format", "gguf"], 64, "gguf"),
            ([Drawing.model, "-o", "x", "--threads", "0"], 64, "--threads"),
            ([scratch.path("nothing"), "-o", "x"], 65, "nothing"),
            ([Drawing.model, "-o", Drawing.model], 65, "the folder is there and holds something else"),
        ] as [([String], Int32, String)] {
            let outcome = try await Tool.nibble(["synthesize"] + arguments)
            #expect(outcome.status == status && outcome.error.contains(text), "\(arguments): \(outcome.error)")
        }
        #expect(try Drawing.bytes(Drawing.model + "/model_index.json").count > 0)
    }
}
