import Foundation
import Testing

@testable import NibbleTokenizers

/// Damaged and missing files: each a clear error that names the file.
@Suite struct BadFileTests {
    private func clip(_ files: [String: String]) throws -> CLIPTokenizer {
        let folder = try TemporaryFolder(files.mapValues { Data($0.utf8) })
        return try withExtendedLifetime(folder) { try CLIPTokenizer(folder: folder.url) }
    }

    private func t5(_ files: [String: Data]) throws -> T5Tokenizer {
        let folder = try TemporaryFolder(files)
        return try withExtendedLifetime(folder) { try T5Tokenizer(folder: folder.url) }
    }

    /// Expects an error of a kind whose message names the file and holds the words.
    private func expect(
        _ file: String, _ words: String, _ location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
    ) {
        let error = #expect(throws: TokenizerError.self, sourceLocation: location) { try body() }
        let message = error?.description ?? ""
        #expect(message.contains(file), "\(message)", sourceLocation: location)
        #expect(message.contains(words), "\(message)", sourceLocation: location)
    }

    private static let vocabulary =
        #"{"a": 0, "b": 1, "ab": 2, "ab</w>": 3, "b</w>": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}"#

    @Test func aSmallVocabularyIsEnough() throws {
        let tokenizer = try clip(["vocab.json": Self.vocabulary, "merges.txt": "#version: 0.2\na b\na b</w>\n"])
        #expect(tokenizer.encode("ab abab") == [5, 3, 2, 3, 6])
        #expect(tokenizer.vocabularySize == 7)
    }

    @Test func missingFiles() {
        expect("vocab.json", "merges.txt") { _ = try clip([:]) }
        expect("merges.txt", "vocab.json") { _ = try clip(["vocab.json": Self.vocabulary]) }
        expect("tokenizer.json", "spiece.model") { _ = try t5([:]) }
    }

    @Test func vocabularies() {
        let merges = "#version: 0.2\na b\n"
        expect("vocab.json", "JSON") { _ = try clip(["vocab.json": #"{"a": 0, "b"#, "merges.txt": merges]) }
        expect("vocab.json", "empty") { _ = try clip(["vocab.json": "{}", "merges.txt": merges]) }
        expect("vocab.json", "-1") { _ = try clip(["vocab.json": #"{"a": -1}"#, "merges.txt": merges]) }
        expect("vocab.json", "JSON") { _ = try clip(["vocab.json": #"{"a": 99999999999}"#, "merges.txt": merges]) }
        expect("vocab.json", "array") { _ = try clip(["vocab.json": "[1, 2]", "merges.txt": merges]) }
        expect("vocab.json", "<|endoftext|>") { _ = try clip(["vocab.json": #"{"a": 0}"#, "merges.txt": ""]) }
        let long = String(repeating: "a", count: 2000)
        expect("vocab.json", "longer") { _ = try clip(["vocab.json": #"{"\#(long)": 0}"#, "merges.txt": ""]) }
    }

    @Test func merges() {
        for (merges, file, words) in [
            ("a c\n", "vocab.json", "the merge 'a c' needs 'c'"), ("b a\n", "vocab.json", "needs 'ba'"),
            ("a b\nab\n", "merges.txt", "merge 3"), ("a b c\n", "merges.txt", "merge 2"),
            ("\na b\n", "merges.txt", "merge 2"), ("a  b\n", "merges.txt", "merge 2"),
        ] {
            let files = ["vocab.json": Self.vocabulary, "merges.txt": "#version: 0.2\n" + merges]
            expect(file, words) { _ = try clip(files) }
        }
    }

    @Test func settings() {
        let files = ["vocab.json": Self.vocabulary, "merges.txt": "#version: 0.2\na b\n"]
        func with(_ name: String, _ contents: String) throws {
            _ = try clip(files.merging([name: contents]) { $1 })
        }
        expect("tokenizer_config.json", "JSON") { try with("tokenizer_config.json", "{") }
        expect("special_tokens_map.json", "JSON") { try with("special_tokens_map.json", "{") }
        expect("tokenizer_config.json", "-5") { try with("tokenizer_config.json", #"{"model_max_length": -5}"#) }
        expect("tokenizer_config.json", "extra_ids") {
            try with("tokenizer_config.json", #"{"extra_ids": 4000000000}"#)
        }
        expect("special_tokens_map.json", "pad_token") { try with("special_tokens_map.json", #"{"pad_token": 1}"#) }
    }

    @Test func unigramFiles() throws {
        let (_, variants) = try FixtureTests.variants("t5")
        let contents = try #require(variants.first?.contents)
        expect("tokenizer.json", "JSON") { _ = try t5(["tokenizer.json": contents.prefix(contents.count / 2)]) }
        for (change, words) in [
            ([("vocab", [] as Any)], "empty"), ([("unk_id", 100_000)], "100000"), ([("unk_id", NSNull())], "none"),
            ([("type", "WordPiece")], "WordPiece"), ([("vocab", [["a"]])], "vocab"),
        ] as [([(String, Any)], String)] {
            var json = try #require(try JSONSerialization.jsonObject(with: contents) as? [String: Any])
            var model = try #require(json["model"] as? [String: Any])
            for (key, value) in change { model[key] = value }
            json["model"] = model
            let changed = try JSONSerialization.data(withJSONObject: json)
            expect("tokenizer.json", words) { _ = try t5(["tokenizer.json": changed]) }
        }
    }

    @Test func normalizersAndOtherParts() throws {
        let (_, variants) = try FixtureTests.variants("t5")
        let contents = try #require(variants.first?.contents)
        let deep =
            String(repeating: #"{"type":"Sequence","normalizers":["#, count: 200) + #"{"type":"NFC"}"#
            + String(repeating: "]}", count: 200)
        for (key, value, words) in [
            ("normalizer", #"{"type":"BertNormalizer"}"#, "BertNormalizer"), ("normalizer", deep, "nested"),
            ("normalizer", #"{"type":"Precompiled","precompiled_charsmap":"!"}"#, "base64"),
            ("normalizer", #"{"type":"Replace","pattern":{"Regex":"(a+)+$"},"content":""}"#, "(a+)+$"),
            ("pre_tokenizer", #"{"type":"ByteLevel","add_prefix_space":false}"#, "bytes"),
            ("pre_tokenizer", #"{"type":"Metaspace","replacement":"ab"}"#, "replacement"),
            ("post_processor", #"{"type":"TemplateProcessing","single":[],"special_tokens":{}}"#, "template"),
            ("post_processor", #"{"type":"RobertaProcessing","sep":["a",-1],"cls":["b",0]}"#, "-1"),
        ] {
            var json = try #require(try JSONSerialization.jsonObject(with: contents) as? [String: Any])
            json[key] = try JSONSerialization.jsonObject(with: Data(value.utf8))
            let changed = try JSONSerialization.data(withJSONObject: json)
            expect("tokenizer.json", words) { _ = try t5(["tokenizer.json": changed]) }
        }
        let abyss = Data((String(repeating: "[", count: 100_000)).utf8)
        expect("tokenizer.json", "JSON") { _ = try t5(["tokenizer.json": abyss]) }
    }

    private func littleEndian(_ numbers: [UInt32]) -> [UInt8] {
        numbers.flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * UInt32($0))) } }
    }

    @Test func characterMaps() throws {
        let text: [UInt8] = [0x61, 0, 0x62, 0]
        for (bytes, words) in [
            ([1, 2], "cut short"), (littleEndian([400, 0]), "400"), (littleEndian([0]), "0 bytes"),
            (littleEndian([3, 0]), "3 bytes"), (littleEndian([4, 0]) + [0xFF], "UTF-8"),
            // Children at unit 4096 of 1; a value behind the text; a value where there is none.
            (littleEndian([4, 4096 << 10]) + text, "unit 4096"), (littleEndian([4, 1 << 31 | 77]) + text, "77"),
            (littleEndian([4, 1 << 8]) + text, "lacks"),
        ] {
            let error = #expect(throws: ContentProblem.self) { _ = try CharacterMap(bytes) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(words))
        }
    }

    @Test func sentencePieces() throws {
        let model = try Fixtures.contents("small.spiece.model")
        expect("spiece.model", "left") { _ = try t5(["spiece.model": model.prefix(model.count - 3)]) }
        expect("spiece.model", "empty") {
            _ = try t5(["spiece.model": Data(), "tokenizer_config.json": Data(#"{"extra_ids": 0}"#.utf8)])
        }
        // Field 1 with a length of 2^63 - 1 and of 2^64 - 1, a number that never ends, a group, and a cut number.
        let ones = [UInt8](repeating: 0xFF, count: 9)
        for (bytes, words) in [
            ([0x0A] + ones.dropLast() + [0x7F], "left"), ([0x0A] + ones + [0x01], "left"),
            ([0x08] + ones + ones, "10 bytes"), ([0x0B], "wire type 3"), ([0x0A, 0x80], "cut short"),
            ([0x0D, 1], "cut short"),
            // A piece that is not UTF-8, one of the type 9, a score that is not a number, a BPE model.
            ([0x0A, 3, 0x0A, 1, 0xFF], "UTF-8"), ([0x0A, 2, 0x18, 9], "type 9"),
            ([0x0A, 8, 0x0A, 1, 0x61, 0x15, 0, 0, 0xC0, 0x7F], "nan"), ([0x12, 2, 0x18, 2], "Unigram"),
        ] as [([UInt8], String)] {
            expect("spiece.model", words) { _ = try t5(["spiece.model": Data(bytes)]) }
        }
    }

    @Test func aFolderInPlaceOfAFile() throws {
        let folder = try TemporaryFolder()
        try FileManager.default.createDirectory(
            at: folder.url.appending(path: "spiece.model"), withIntermediateDirectories: true)
        withExtendedLifetime(folder) {
            expect("spiece.model", "not a file") { _ = try T5Tokenizer(folder: folder.url) }
        }
    }
}
