import Foundation
import Testing

@testable import NibbleTokenizers

/// Fixtures made with Hugging Face's tokenizers; ids are equal.
@Suite struct FixtureTests {
    private struct EmojiCase: Decodable {
        let prompt: String
        let clip: [Int32]
        let t5: [Int32]
    }

    @Test func embeddedModel() throws {
        let clip = try CLIPTokenizer(folder: Fixtures.emojiModel.appending(path: "tokenizer"))
        let t5 = try T5Tokenizer(folder: Fixtures.emojiModel.appending(path: "tokenizer_2"))
        for fixture in try JSONDecoder().decode([EmojiCase].self, from: Fixtures.contents("flux-emoji.json")) {
            #expect(clip.encode(fixture.prompt) == fixture.clip, "CLIP of \(fixture.prompt.debugDescription)")
            #expect(t5.encode(fixture.prompt) == fixture.t5, "T5 of \(fixture.prompt.debugDescription)")
        }
    }

    private struct Case: Decodable {
        let prompt: String
        let ids: [Int32]
    }

    @Test func sentencePieceUnderEachSetting() throws {
        let settings = try #require(
            try JSONSerialization.jsonObject(with: Fixtures.contents("sentencepiece.json")) as? [[String: Any]])
        for setting in settings {
            let config = try JSONSerialization.data(withJSONObject: #require(setting["config"]))
            let tokenizer = try T5Tokenizer(
                sentencePiece: Fixtures.contents("small.spiece.model"),
                configuration: TokenizerConfiguration(config: config))
            let cases = try JSONSerialization.data(withJSONObject: #require(setting["cases"]))
            for fixture in try JSONDecoder().decode([Case].self, from: cases) {
                #expect(
                    tokenizer.encode(fixture.prompt) == fixture.ids,
                    "\(fixture.prompt.debugDescription) with \(String(decoding: config, as: UTF8.self))")
            }
        }
    }

    /// A tokenizer.json and the ids of the family's prompts.
    struct Variant: CustomTestStringConvertible {
        let name: String
        let contents: Data
        let ids: [[Int32]]

        var testDescription: String { name }
    }

    static func variants(_ kind: String) throws -> (prompts: [String], variants: [Variant]) {
        let json = try JSONSerialization.jsonObject(with: Fixtures.contents("variants.json")) as? [String: Any]
        let family = try #require(json?[kind] as? [String: Any])
        let base = try #require(family["base"] as? [String: Any])
        let list = try #require(family["variants"] as? [[String: Any]])
        let variants = try list.map { variant in
            let change = try #require(variant["change"] as? [String: Any])
            return Variant(
                name: try #require(variant["name"] as? String),
                contents: try JSONSerialization.data(withJSONObject: base.merging(change) { $1 }),
                ids: try #require(variant["ids"] as? [[Int]]).map { $0.map(Int32.init) })
        }
        return (try #require(family["prompts"] as? [String]), variants)
    }

    @Test func unigramVariants() throws {
        // transformers would add its sentinels; the fixture is of the tokenizers library alone.
        let configuration = try TokenizerConfiguration(config: Data(#"{"extra_ids": 0}"#.utf8))
        let (prompts, variants) = try Self.variants("t5")
        for variant in variants {
            let tokenizer = try T5Tokenizer(tokenizerJSON: variant.contents, configuration: configuration)
            for (prompt, ids) in zip(prompts, variant.ids) {
                #expect(tokenizer.encode(prompt) == ids, "\(variant.name): \(prompt.debugDescription)")
            }
        }
    }

    @Test func pairVariants() throws {
        let (prompts, variants) = try Self.variants("clip")
        for variant in variants {
            let tokenizer = try CLIPTokenizer(
                tokenizerJSON: variant.contents, configuration: TokenizerConfiguration())
            for (prompt, ids) in zip(prompts, variant.ids) {
                #expect(tokenizer.encode(prompt) == ids, "\(variant.name): \(prompt.debugDescription)")
            }
        }
    }
}
