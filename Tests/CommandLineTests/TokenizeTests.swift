import Foundation
import NibbleTestSupport
import Testing

/// `nibble tokenize` in the form that scripts rely on, against ids of Hugging Face's fast tokenizers.
@Suite struct TokenizeTests {
    struct Row: Decodable, Equatable {
        let clip, t5: [Int]?
    }

    private func rows(_ outcome: Tool.Outcome) throws -> [Row] {
        #expect(outcome.status == 0 && outcome.error == "", "\(outcome.error)")
        return try JSONDecoder().decode([Row].self, from: Data(outcome.output.utf8))
    }

    @Test(arguments: Goldens.fluxModels)
    func `the exact form prints the ids of every golden prompt`(_ folder: URL) async throws {
        let scratch = try Scratch()
        let cases = GoldenCase.all(of: folder)
        // Both prompts of each case; CLIP's ids are those of the first, T5's those of the second.
        let prompts = cases.flatMap { [$0.prompt, $0.prompt2 ?? $0.prompt] }
        let file = try scratch.write(
            String(decoding: try JSONEncoder().encode(prompts), as: UTF8.self), to: "prompts.json")
        let model = folder.appending(path: "model").path
        let outcome = try await Tool.nibble([
            "tokenize", "--clip", model + "/tokenizer", "--t5", model + "/tokenizer_2", "--file", file,
        ])
        let rows = try rows(outcome)
        try #require(rows.count == prompts.count)
        for (index, one) in cases.enumerated() {
            let golden = try GoldenTensors(folder.appending(path: "golden/\(one.file)"))
            try expect(#require(rows[2 * index].clip), isUnpadded: golden.integers("clip_input_ids"))
            try expect(#require(rows[2 * index + 1].t5), isUnpadded: golden.integers("t5_input_ids"))
        }
    }

    /// The golden ids are cut or filled to a length; in both cases the end token closes them.
    private func expect(_ ids: [Int], isUnpadded golden: [Int]) {
        if ids.count <= golden.count {
            #expect(Array(golden.prefix(ids.count)) == ids && Set(golden.dropFirst(ids.count)).count <= 1)
        } else {
            #expect(Array(ids.prefix(golden.count - 1)) == golden.dropLast() && ids.last == golden.last)
        }
    }

    @Test func `one prompt and one tokenizer`() async throws {
        let clip = Drawing.model + "/tokenizer"
        let scratch = try Scratch()
        let file = try scratch.write("[\"red apple\", \"\", \"caf\\u00e9 \\ud83c\\udf4e\"]", to: "prompts.json")
        let one = try rows(try await Tool.nibble(["tokenize", "red apple", "--clip", clip]))
        let many = try rows(try await Tool.nibble(["tokenize", "--file", file, "--clip", clip]))
        #expect(one.count == 1 && many.count == 3 && many[0] == one[0] && one[0].t5 == nil)
        // Begin and end alone.
        #expect(many[1].clip?.count == 2)
    }

    @Test func `no prompts are an empty list`() async throws {
        let scratch = try Scratch()
        let file = try scratch.write("[]", to: "prompts.json")
        #expect(
            try rows(try await Tool.nibble(["tokenize", "--file", file, "--clip", Drawing.model + "/tokenizer"])) == [])
    }

    /// From a cache of the Hub, without a network: a model's name means its two tokenizers.
    @Test func `a name takes the place of a folder`() async throws {
        let scratch = try Scratch()
        let commit = String(repeating: "0123456789", count: 4)
        let model = scratch.path("cache/models--ada--emoji")
        for (folder, name) in [
            ("refs", nil), ("snapshots/\(commit)", "tokenizer"), ("snapshots/\(commit)", "tokenizer_2"),
        ] {
            try FileManager.default.createDirectory(atPath: "\(model)/\(folder)", withIntermediateDirectories: true)
            guard let name else { continue }
            try FileManager.default.copyItem(
                atPath: "\(Drawing.model)/\(name)", toPath: "\(model)/\(folder)/\(name)")
        }
        try Data(commit.utf8).write(to: URL(filePath: model + "/refs/main"))
        let environment = ["HF_HUB_CACHE": scratch.path("cache"), "HF_HUB_OFFLINE": "1"]
        let named = try await Tool.nibble(
            ["tokenize", "red apple", "--clip", "ada/emoji", "--t5", "ada/emoji/tokenizer_2"], environment: environment)
        let folders = try rows(
            try await Tool.nibble(["tokenize", "red apple", "--clip", Drawing.model, "--t5", Drawing.model]))
        #expect(try rows(named) == folders && folders.first?.clip != nil && folders.first?.t5 != nil)
        let missing = try await Tool.nibble(
            ["tokenize", "x", "--clip", "ada/nothing"], environment: environment)
        #expect(missing.status == 65 && missing.error.contains("HF_HUB_OFFLINE"))
    }
}
