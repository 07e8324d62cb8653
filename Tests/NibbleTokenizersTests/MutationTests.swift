import Foundation
import Testing

@testable import NibbleTokenizers

/// Small files with random damage: an error or a tokenizer that works, never a crash or an endless loop.
@Suite struct MutationTests {
    private static let prompt = "The cat's caf\u{E9} \u{FB01} \u{A8} 12 <extra_id_0></s><|endoftext|>\r\n \u{1F600}  x"

    /// Flips, inserts, doubles and removes bytes, or cuts the end off.
    private func damaged(_ contents: Data, _ random: inout SplitMix) -> Data {
        var bytes = [UInt8](contents)
        for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
            let place = Int.random(in: bytes.indices, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: bytes.removeSubrange(place...)
            case 1: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
            case 2: bytes.removeSubrange(place..<min(bytes.count, place + 8))
            case 3: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 16)], at: place)
            case 4: bytes[place] = [0, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x39][Int.random(in: 0..<7, using: &random)]
            default: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            }
        }
        return Data(bytes)
    }

    /// How many of `count` damaged files were read.
    private func survivors(
        of contents: Data, count: Int, seed: UInt64, _ read: (Data) throws -> any Tokenizer
    ) -> Int {
        var random = SplitMix(state: seed)
        return (0..<count).filter { _ in
            guard let tokenizer = try? read(damaged(contents, &random)) else { return false }
            let ids = tokenizer.encode(Self.prompt)
            return ids.allSatisfy { $0 >= 0 && Int($0) < tokenizer.vocabularySize }
                && tokenizer.encode(Self.prompt, length: 16).count == 16
        }.count
    }

    @Test func tokenizerJSON() throws {
        let configuration = try TokenizerConfiguration(config: Data(#"{"extra_ids": 2}"#.utf8))
        for (place, variant) in try FixtureTests.variants("t5").variants.enumerated() {
            _ = survivors(of: variant.contents, count: 60, seed: UInt64(place)) {
                try T5Tokenizer(tokenizerJSON: $0, configuration: configuration)
            }
        }
        for (place, variant) in try FixtureTests.variants("clip").variants.enumerated() {
            _ = survivors(of: variant.contents, count: 60, seed: UInt64(place)) {
                try CLIPTokenizer(tokenizerJSON: $0, configuration: TokenizerConfiguration())
            }
        }
    }

    @Test func sentencePiece() throws {
        let model = try Fixtures.contents("small.spiece.model")
        let read = survivors(of: model, count: 3000, seed: 1) {
            try T5Tokenizer(sentencePiece: $0, configuration: TokenizerConfiguration())
        }
        // Most flips hit a score or a letter, and leave a model that can be read.
        #expect(read > 300)
    }

    @Test func characterMap() throws {
        let file = try SentencePieceFile([UInt8](Fixtures.contents("small.spiece.model"))[...])
        var random = SplitMix(state: 2)
        for _ in 0..<3000 {
            guard let map = try? CharacterMap(damaged(Data(file.characterMap), &random)) else { continue }
            var piece = TextPiece(Array(Self.prompt.utf8)[...], startsPrompt: true)
            map.normalize(&piece)
            #expect(String(validating: piece.utf8, as: UTF8.self) != nil)
        }
    }

    @Test func vocabularyMergesAndSettings() throws {
        let vocabulary = Data(#"{"a":0,"b":1,"ab":2,"c</w>":3,"abc</w>":4,"<|startoftext|>":5,"<|endoftext|>":6}"#.utf8)
        let merges = Data("#version: 0.2\na b\nab c</w>\n".utf8)
        let settings =
            #"{"model_max_length":77,"eos_token":"<|endoftext|>","pad_token":{"content":"a","lstrip":true},"#
            + #""added_tokens_decoder":{"6":{"content":"<|endoftext|>","rstrip":true,"special":true}}}"#
        let config = Data(settings.utf8)
        for (place, original) in [vocabulary, merges, config].enumerated() {
            let read = survivors(of: original, count: 1000, seed: UInt64(place)) { changed in
                let entries = try JSONDecoder().decode([String: Int32].self, from: place == 0 ? changed : vocabulary)
                return try CLIPTokenizer(
                    vocabulary: entries, merges: MergesFile.pairs(place == 1 ? changed : merges),
                    configuration: TokenizerConfiguration(config: place == 2 ? changed : config))
            }
            #expect(read > 0)
        }
    }
}
