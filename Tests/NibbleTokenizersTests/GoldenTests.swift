import Foundation
import NibbleTestSupport
import NibbleTokenizers
import Testing

/// Ids are equal to those of Hugging Face's tokenizers; there is no tolerance.
@Suite struct GoldenTests {
    @Test(.enabled(if: RealVocabularies.exist, "the real vocabularies are not beside the repository"))
    func realVocabularies() throws {
        let clip = try CLIPTokenizer(folder: RealVocabularies.folder.appending(path: "clip"))
        let t5 = try T5Tokenizer(folder: RealVocabularies.folder.appending(path: "t5"))
        for golden in try RealVocabularies.golden() {
            #expect(clip.encode(golden.prompt) == golden.clip, "CLIP of \(golden.prompt.debugDescription)")
            #expect(t5.encode(golden.prompt) == golden.t5, "T5 of \(golden.prompt.debugDescription)")
        }
    }

    @Test(.enabled(if: RealVocabularies.exist, "the real vocabularies are not beside the repository"))
    func sentencePieceAlone() throws {
        let names = ["spiece.model", "tokenizer_config.json", "special_tokens_map.json"]
        let source = RealVocabularies.folder.appending(path: "t5")
        let files = try names.map { ($0, try Data(contentsOf: source.appending(path: $0))) }
        let folder = try TemporaryFolder(Dictionary(uniqueKeysWithValues: files))
        let t5 = try withExtendedLifetime(folder) { try T5Tokenizer(folder: folder.url) }
        for golden in try RealVocabularies.golden() {
            #expect(t5.encode(golden.prompt) == golden.t5, "\(golden.prompt.debugDescription)")
        }
    }

    @Test(.enabled(if: RealVocabularies.exist, "the real vocabularies are not beside the repository"))
    func sentencePieceWithoutSettings() throws {
        let source = RealVocabularies.folder.appending(path: "t5/spiece.model")
        let folder = try TemporaryFolder(["spiece.model": try Data(contentsOf: source)])
        let t5 = try withExtendedLifetime(folder) { try T5Tokenizer(folder: folder.url) }
        #expect(t5.modelMaxLength == nil)
        // With no settings transformers puts a space before every piece, the settings of FLUX.1 only before the first.
        // So ids may differ where special tokens' text splits the prompt, and only there.
        for golden in try RealVocabularies.golden() where !golden.prompt.contains("<") {
            #expect(t5.encode(golden.prompt) == golden.t5, "\(golden.prompt.debugDescription)")
        }
        #expect(t5.encode("a</s>b") == [3, 9, 1, 3, 115, 1])
    }

    private struct Cases: Decodable {
        struct Case: Decodable {
            let file: String
            let prompt: String
            /// What T5 gets; the same as CLIP where it is missing.
            let prompt_2: String?
        }
        let cases: [Case]
    }

    @Test(
        .enabled(if: !Goldens.fluxModels.isEmpty, "no golden FLUX model was found"), arguments: Goldens.fluxModels)
    func fluxModels(_ folder: URL) throws {
        let clip = try CLIPTokenizer(folder: folder.appending(path: "model/tokenizer"))
        let t5 = try T5Tokenizer(folder: folder.appending(path: "model/tokenizer_2"))
        let list = try Data(contentsOf: folder.appending(path: "golden/cases.json"))
        let cases = try JSONDecoder().decode(Cases.self, from: list).cases
        #expect(!cases.isEmpty)
        for golden in cases {
            let tensors = try IntegerTensors(folder.appending(path: "golden/\(golden.file)"))
            let clipIDs = try tensors.values("clip_input_ids")
            let t5IDs = try tensors.values("t5_input_ids")
            #expect(clip.encode(golden.prompt, length: clipIDs.count) == clipIDs, "CLIP of \(golden.prompt)")
            let second = golden.prompt_2 ?? golden.prompt
            #expect(t5.encode(second, length: t5IDs.count) == t5IDs, "T5 of \(second)")
        }
    }

    private struct EncoderConfig: Decodable {
        let vocab_size: Int
    }

    @Test(
        .enabled(if: !Goldens.fluxModels.isEmpty, "no golden FLUX model was found"), arguments: Goldens.fluxModels)
    func idsFitTheTextEncoders(_ folder: URL) throws {
        let model = folder.appending(path: "model")
        let tokenizers: [(any Tokenizer, String)] = [
            (try CLIPTokenizer(folder: model.appending(path: "tokenizer")), "text_encoder"),
            (try T5Tokenizer(folder: model.appending(path: "tokenizer_2")), "text_encoder_2"),
        ]
        for (tokenizer, encoder) in tokenizers {
            let config = try Data(contentsOf: model.appending(path: "\(encoder)/config.json"))
            let rows = try JSONDecoder().decode(EncoderConfig.self, from: config).vocab_size
            #expect(tokenizer.vocabularySize <= rows, "\(encoder)")
        }
    }
}
