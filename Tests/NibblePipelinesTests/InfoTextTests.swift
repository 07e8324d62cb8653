import Foundation
import Testing

@testable import NibblePipelines

@Suite struct InfoTextTests {
    /// A text and what A1111's own function makes of it.
    struct Golden: Sendable, CustomTestStringConvertible {
        let text: String
        let prompt: String
        let negative: String
        let fields: [[String]]
        var testDescription: String { String(text.prefix(30)) }
    }

    /// The right sides were printed by `parse_generation_parameters` of stable-diffusion-webui 1.10 (its regular
    /// expression and its loop over the lines, run in Python).
    static let goldens = [
        Golden(
            text: "girl with an artist's beret, determined, blue eyes\nNegative prompt: ugly, fat\nblurry\n"
                + "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b",
            prompt: "girl with an artist's beret, determined, blue eyes", negative: "ugly, fat\nblurry",
            fields: [
                ["Steps", "20"], ["Sampler", "Euler a"], ["CFG scale", "7"], ["Seed", "965400086"],
                ["Size", "512x512"], ["Model hash", "45dee52b"],
            ]),
        Golden(
            text: "a fox\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, "
                + "Seed: 1, Size: 896x1152, Model: flux1-dev, Version: f2.0.1v1.10.1-previous-669, Module 1: ae",
            prompt: "a fox", negative: "",
            fields: [
                ["Steps", "20"], ["Sampler", "Euler"], ["Schedule type", "Simple"], ["CFG scale", "1"],
                ["Distilled CFG Scale", "3.5"], ["Seed", "1"], ["Size", "896x1152"], ["Model", "flux1-dev"],
                ["Version", "f2.0.1v1.10.1-previous-669"], ["Module 1", "ae"],
            ]),
        Golden(text: "two, words: here", prompt: "two, words: here", negative: "", fields: []),
        Golden(
            text: #"p"# + "\n" + #"ab: "x, y: \"z\"", cd: "unclosed, ef: 3, gh:"q"r, ij:  , kl: """#, prompt: "p",
            negative: "",
            fields: [
                ["ab", #"x, y: "z""#], ["cd", #""unclosed"#], ["ef", "3"], ["gh", #""q"r"#], ["ij", ""], ["kl", ""],
            ]),
        Golden(
            text: "p\n- --ab c-d/e: 1, a: 2, \u{dc}ber: 3, _x: 4, a:bc: 5, x y", prompt: "p", negative: "",
            fields: [["ab c-d/e", "1"], ["\u{dc}ber", "3"], ["_x", "4"], ["bc", "5"]]),
        Golden(
            text: "\n\n  spaced  \n\n  out \nSteps: 1, Seed: 2, Size: 3x4,   \n ", prompt: "spaced\n\nout",
            negative: "", fields: [["Steps", "1"], ["Seed", "2"], ["Size", "3x4"]]),
        Golden(text: "", prompt: "", negative: "", fields: []),
        Golden(
            text: "Negative prompt: only\nSteps: 1, Seed: 2, Size: 3x4", prompt: "", negative: "only",
            fields: [["Steps", "1"], ["Seed", "2"], ["Size", "3x4"]]),
        Golden(
            text: "p\nab: 1,cd: 2,ef: \"\\u00fc\\n\\\\\"", prompt: "p", negative: "",
            fields: [["ab", "1"], ["cd", "2"], ["ef", "\u{fc}\n\\"]]),
    ]

    @Test(arguments: goldens)
    func readAsTheOriginalReads(_ golden: Golden) {
        let found = InfoText(parsing: golden.text)
        #expect(found.prompt == golden.prompt)
        #expect(found.negativePrompt == golden.negative)
        #expect(found.fields.map { [$0.name, $0.value] } == golden.fields)
    }

    @Test func aRecordAsText() {
        var record = MetadataTests.plain
        record.model = "black-forest-labs/FLUX.1-dev"
        #expect(
            InfoText(record).text
                == "a red fox riding a bicycle\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, "
                + "Distilled CFG Scale: 3.5, Seed: 42, Size: 1024x768, Model: FLUX.1-dev, Version: nibble 0.1.0")
        record.guidance = nil
        record.model = "my, \"own\": model"
        #expect(
            InfoText(record).text
                == "a red fox riding a bicycle\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, "
                + #"Seed: 42, Size: 1024x768, Model: "my, \"own\": model", Version: nibble 0.1.0"#)
    }

    @Test(arguments: [
        "m", "my, model", "a: b", "\"quoted\"", " edges ", "new\nline", "back\\slash", "tab\there", "caf\u{e9}\0",
    ])
    func aRecordReadBack(_ model: String) throws {
        var record = MetadataTests.plain
        record.prompt = "a fox: \"red\", fast\nsecond line"
        record.seed = .max
        record.guidance = 0.1
        record.model = model
        let read = try RecordedRequest(texts: ["parameters": InfoText(record).text])
        #expect(read.prompt == record.prompt && read.seed == .max && read.steps == 20 && read.guidance == 0.1)
        #expect(read.width == 1024 && read.height == 768 && read.model == model)
        #expect(read.record == nil && read.prompt2 == nil)
    }

    @Test func noNulIsWritten() {
        var record = MetadataTests.plain
        record.prompt = "a\0b"
        #expect(InfoText(record).text.hasPrefix("ab\nSteps"))
    }

    @Test(arguments: [
        ("Steps", "0"), ("Steps", "99999999999999999999"), ("Steps", "many"), ("Steps", "-1"),
        ("Seed", "18446744073709551616"), ("Seed", "0x10"), ("Size", "0x5"), ("Size", "x"), ("Size", "1x2x3"),
        ("Size", "99999999999999999999x1"), ("Size", "1x4611686018427387904"), ("Distilled CFG Scale", "nan"),
        ("Distilled CFG Scale", "1e999"), ("Distilled CFG Scale", "strong"),
    ])
    func absurdValuesAreRefusedByName(_ name: String, _ value: String) {
        let text = "p\nSampler: Euler, \(name): \(value), Version: 1, Model: m"
        let error = #expect(throws: MetadataError.self) { try RecordedRequest(texts: ["parameters": text]) }
        guard case .invalidValue(name, _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func asFarAsItGoes() throws {
        let negative = try RecordedRequest(texts: ["parameters": "p\nSeed: -1, Sampler: Euler, Version: 1"])
        #expect(negative.seed == .max && negative.steps == nil && negative.width == nil && negative.guidance == nil)
        #expect(try RecordedRequest(texts: ["parameters": "only words"]).prompt == "only words")
    }

    /// Half a megabyte each, of what makes a backtracking reader slow.
    @Test(arguments: [
        "a", "a ", "a:", "\"", "ab:\"", "ab:\"\\", ",", "\n", "ab: 1, ", "ab: \"x\", ", "\\", "- ", "Negative prompt:",
    ])
    func hostileTexts(_ piece: String) {
        let text = String(repeating: piece, count: 500_000 / piece.count)
        for text in [text, "p\n" + text + ":", "ab: " + text, "ab: \"" + text] {
            let parsed = InfoText(parsing: text)
            #expect(parsed.prompt.utf8.count <= text.utf8.count)
        }
    }
}
