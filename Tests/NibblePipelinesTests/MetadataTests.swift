import Foundation
import NibbleTensors
import Testing

@testable import NibblePipelines

@Suite struct MetadataTests {
    static let plain = GenerationRecord(
        prompt: "a red fox riding a bicycle", seed: 42, steps: 20, guidance: 3.5, width: 1024, height: 768,
        maxSequenceLength: 512, precision: .bf16, model: "/models/FLUX.1-dev", nibbleVersion: "0.1.0",
        instructionSet: "avx512bf16", roundsConditioning: false)

    /// Texts that have broken readers of metadata before: sizes, line ends, quotes, look-alikes of the format itself.
    static let prompts = [
        "", " ", "\n", "a\nb\r\nc", #"say "hi", \ twice: \n"#, "caf\u{e9} \u{96e8}\u{306e}\u{591c} \u{1f327}",
        "e\u{301} is not \u{e9}", "\0 in it", "Negative prompt: none", "x\nSteps: 1, Seed: 2, Size: 3x4",
        "{\"prompt\": \"x\"}", "\u{2028}\u{feff}\u{200d}", String(repeating: "a fox, ", count: 15_000),
        String(repeating: "\"\\\n", count: 30_000),
    ]

    @Test(arguments: prompts)
    func everyPromptSurvivesJSON(_ prompt: String) throws {
        var record = Self.plain
        record.prompt = prompt
        record.prompt2 = String(prompt.reversed())
        record.model = prompt
        let json = try record.json()
        let read = try RecordedRequest(texts: ["nibble": json, "parameters": "not looked at"])
        let found = try #require(read.record)
        #expect(found == record)
        // Swift compares strings by canonical equivalence; the tokenizer must get the same scalars.
        #expect(Array(found.prompt.unicodeScalars) == Array(prompt.unicodeScalars))
        #expect(try found.json() == json)
        #expect(!json.utf8.contains(0), "a PNG text cannot hold NUL")
    }

    @Test func jsonIsStable() throws {
        var record = Self.plain
        record.seed = .max
        record.guidance = nil
        record.modelFingerprint = "sha256:00ff"
        let expected =
            #"{"format":1,"height":768,"instruction_set":"avx512bf16","max_sequence_length":512,"#
            + #""model":"/models/FLUX.1-dev","model_fingerprint":"sha256:00ff","nibble_version":"0.1.0","#
            + #""precision":"bf16","prompt":"a red fox riding a bicycle","rounds_conditioning":false,"#
            + #""seed":"18446744073709551615","steps":20,"width":1024}"#
        #expect(try record.json() == expected)
        #expect(try GenerationRecord(json: expected) == record)
    }

    @Test func accumulationIsWrittenWhereItIsNotTheUsualOne() throws {
        #expect(!(try Self.plain.json().contains("accumulation")))
        var record = Self.plain
        record.activations = .int4
        record.accumulation = .nunchaku
        let json = try record.json()
        #expect(json.contains(#""accumulation":"nunchaku","activations":"int4""#))
        #expect(try GenerationRecord(json: json) == record)
        let error = #expect(throws: MetadataError.self) {
            try GenerationRecord(json: json.replacing("nunchaku", with: "f8"))
        }
        guard case .invalidValue("accumulation", "f8", "f32 or nunchaku") = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func attentionIsWrittenWhereItIsNotTheUsualOne() throws {
        #expect(!(try Self.plain.json().contains("attention")))
        var record = Self.plain
        record.attention = .int8
        let json = try record.json()
        #expect(json.contains(#""attention":"int8""#))
        #expect(try GenerationRecord(json: json) == record)
        let error = #expect(throws: MetadataError.self) {
            try GenerationRecord(json: json.replacing(#""int8""#, with: #""int2""#))
        }
        guard case .invalidValue("attention", "int2", "bf16 or int8") = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test(arguments: [
        "", "null", "[]", "{}", "nonsense", #"{"format":1}"#, #"{"format":"1"}"#, "{\"format\":1,",
        String(repeating: "[", count: 1_000_000), String(repeating: #"{"a":"#, count: 100_000),
    ])
    func textsThatAreNoRecord(_ json: String) {
        let error = #expect(throws: MetadataError.self) { try RecordedRequest(texts: ["nibble": json]) }
        guard case .malformed("nibble", _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    /// One value of a good record replaced: what must be said of it.
    @Test(arguments: [
        ("\"seed\":\"42\"", "\"seed\":42", "malformed"), ("\"seed\":\"42\"", "\"seed\":\"-1\"", "seed"),
        ("\"seed\":\"42\"", "\"seed\":\"18446744073709551616\"", "seed"), ("\"seed\":\"42\"", "\"seed\":\"\"", "seed"),
        ("\"steps\":20", "\"steps\":0", "steps"), ("\"steps\":20", "\"steps\":-3", "steps"),
        ("\"steps\":20", "\"steps\":9007199254740993", "steps"), ("\"steps\":20", "\"steps\":1e300", "malformed"),
        ("\"steps\":20", "\"steps\":2.5", "malformed"), ("\"width\":1024", "\"width\":0", "width"),
        ("\"width\":1024", "\"width\":4611686018427387904", "width"), ("\"height\":768", "\"height\":-768", "height"),
        ("\"max_sequence_length\":512", "\"max_sequence_length\":0", "max_sequence_length"),
        ("\"guidance\":3.5", "\"guidance\":1e999", "malformed"), ("\"guidance\":3.5", "\"guidance\":NaN", "malformed"),
        ("\"precision\":\"bf16\"", "\"precision\":\"f64\"", "precision"), ("\"prompt\":", "\"prompts\":", "malformed"),
        ("\"format\":1", "\"format\":2", "format"),
        ("a red fox", "a \\ud800 fox", "malformed"),
    ])
    func wrongValues(_ old: String, _ new: String, _ expected: String) throws {
        let json = try Self.plain.json()
        let changed = json.replacing(old, with: new)
        #expect(changed != json)
        let error = #expect(throws: MetadataError.self) { try GenerationRecord(json: changed) }
        switch error {
        case .malformed: #expect(expected == "malformed")
        case .unknownFormat(let found, _): #expect(expected == "format" && found == 2)
        case .invalidValue(let key, _, _): #expect(expected == key)
        default: Issue.record("\(String(describing: error))")
        }
    }

    @Test func whatCannotBeReadIsNotWritten() {
        var record = Self.plain
        record.guidance = .nan
        #expect(throws: MetadataError.self) { try record.json() }
        record = Self.plain
        record.width = .max
        #expect(throws: MetadataError.self) { try record.json() }
    }

    @Test func picturesThatSayNothing() {
        #expect(throws: MetadataError.nothingRecorded(keys: ["nibble", "parameters"])) {
            try RecordedRequest(texts: ["Software": "a camera"])
        }
    }
}
