internal import Foundation

/// The contents of a `tokenizer.json` (Hugging Face tokenizers, `tokenizer/serialization.rs`), with either model.
struct TokenizerFile<Model: Decodable>: Decodable {
    let addedTokens: [AddedToken]
    let normalizer: Normalizer?
    let preTokenizer: PreTokenizer?
    let postProcessor: PostProcessor?
    let model: Model

    private enum Key: String, CodingKey {
        case normalizer, model
        case addedTokens = "added_tokens"
        case preTokenizer = "pre_tokenizer"
        case postProcessor = "post_processor"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        addedTokens = try container.decodeIfPresent([AddedToken].self, forKey: .addedTokens) ?? []
        normalizer = try container.decodeIfPresent(Normalizer.self, forKey: .normalizer)
        preTokenizer = try container.decodeIfPresent(PreTokenizer.self, forKey: .preTokenizer)
        postProcessor = try container.decodeIfPresent(PostProcessor.self, forKey: .postProcessor)
        model = try container.decode(Model.self, forKey: .model)
    }
}

/// The ids that `post_processor` puts around a text.
struct PostProcessor: Decodable {
    private(set) var start: [Int32] = []
    private(set) var end: [Int32] = []

    private enum Key: String, CodingKey {
        case type, processors, single, sep, cls
        case specialTokens = "special_tokens"
    }

    /// A part of a template: the text, or a special token.
    private struct Part: Decodable {
        struct Name: Decodable { let id: String }
        let sequence: Name?
        let specialToken: Name?

        private enum CodingKeys: String, CodingKey {
            case sequence = "Sequence"
            case specialToken = "SpecialToken"
        }
    }

    private struct SpecialToken: Decodable { let ids: [Int32] }

    /// `["</s>", 1]`.
    private struct NamedID: Decodable {
        let id: Int32

        init(from decoder: any Decoder) throws {
            var container = try decoder.unkeyedContainer()
            _ = try container.decode(String.self)
            id = try container.decode(Int32.self)
        }
    }

    init(from decoder: any Decoder) throws {
        try decoder.checkDepth()
        let container = try decoder.container(keyedBy: Key.self)
        let type = try container.decode(String.self, forKey: .type)
        switch type {
        case "ByteLevel": break
        case "RobertaProcessing", "BertProcessing":
            start = [try container.decode(NamedID.self, forKey: .cls).id]
            end = [try container.decode(NamedID.self, forKey: .sep).id]
        case "Sequence":
            for part in try container.decode([PostProcessor].self, forKey: .processors) {
                start = part.start + start
                end += part.end
            }
        case "TemplateProcessing": try readTemplate(container)
        default: throw ContentProblem.unsupported("the post-processor '\(type)'")
        }
        if let bad = (start + end).first(where: { $0 < 0 || $0 == .max }) {
            throw ContentProblem.malformed("a special token has the id \(bad)")
        }
    }

    private mutating func readTemplate(_ container: KeyedDecodingContainer<Key>) throws {
        let parts = try container.decode([Part].self, forKey: .single)
        let tokens = try container.decode([String: SpecialToken].self, forKey: .specialTokens)
        var texts = 0
        for part in parts {
            guard let name = part.specialToken?.id else {
                texts += 1
                continue
            }
            guard let token = tokens[name] else { throw ContentProblem.missingToken(name, role: "template's") }
            if texts == 0 { start += token.ids } else { end += token.ids }
        }
        guard texts == 1 else { throw ContentProblem.malformed("the template holds the text \(texts) times") }
    }
}

/// `model` of a tokenizer.json that holds byte-pair encoding.
struct BytePairContents: Decodable {
    let vocabulary: [String: Int32]
    let merges: [(left: ArraySlice<UInt8>, right: ArraySlice<UInt8>)]
    let unknownToken: String?
    let endOfWordSuffix: String
    let fusesUnknown: Bool

    private enum Key: String, CodingKey {
        case type, merges, dropout
        case vocabulary = "vocab"
        case unknownToken = "unk_token"
        case prefix = "continuing_subword_prefix"
        case suffix = "end_of_word_suffix"
        case fusesUnknown = "fuse_unk"
        case fallsBackToBytes = "byte_fallback"
        case ignoresMerges = "ignore_merges"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        // Files from before the type was written have none.
        let type = try container.decodeIfPresent(String.self, forKey: .type) ?? "BPE"
        guard type == "BPE" else { throw ContentProblem.unsupported("the model '\(type)' in place of BPE") }
        if let dropout = try container.decodeIfPresent(Double.self, forKey: .dropout), dropout != 0 {
            throw ContentProblem.unsupported("dropout, which makes ids random,")
        }
        for option in [Key.fallsBackToBytes, .ignoresMerges]
        where try container.decodeIfPresent(Bool.self, forKey: option) == true {
            throw ContentProblem.unsupported("'\(option.rawValue)' in CLIP's model")
        }
        guard try (container.decodeIfPresent(String.self, forKey: .prefix) ?? "").isEmpty else {
            throw ContentProblem.unsupported("'\(Key.prefix.rawValue)' in CLIP's model")
        }
        vocabulary = try container.decode([String: Int32].self, forKey: .vocabulary)
        unknownToken = try container.decodeIfPresent(String.self, forKey: .unknownToken)
        endOfWordSuffix = try container.decodeIfPresent(String.self, forKey: .suffix) ?? ""
        fusesUnknown = try container.decodeIfPresent(Bool.self, forKey: .fusesUnknown) ?? false
        // Merges are written as "a b" or, newer, as ["a", "b"].
        if let lines = try? container.decode([String].self, forKey: .merges) {
            merges = try lines.enumerated().map { try MergesFile.pair(Array($1.utf8)[...], line: $0 + 1) }
        } else {
            merges = try container.decode([[String]].self, forKey: .merges).map { pair in
                guard pair.count == 2 else { throw ContentProblem.malformed("a merge has \(pair.count) parts") }
                return (Array(pair[0].utf8)[...], Array(pair[1].utf8)[...])
            }
        }
    }
}

/// `model` of a tokenizer.json that holds a unigram model.
struct UnigramContents: Decodable {
    let pieces: [Piece]
    let unknownID: Int?
    let fallsBackToBytes: Bool

    /// `["cat", -9.5]`.
    struct Piece: Decodable {
        let text: String
        let score: Double

        init(from decoder: any Decoder) throws {
            var container = try decoder.unkeyedContainer()
            text = try container.decode(String.self)
            score = try container.decode(Double.self)
        }
    }

    private enum Key: String, CodingKey {
        case type
        case pieces = "vocab"
        case unknownID = "unk_id"
        case fallsBackToBytes = "byte_fallback"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        let type = try container.decodeIfPresent(String.self, forKey: .type) ?? "Unigram"
        guard type == "Unigram" else { throw ContentProblem.unsupported("the model '\(type)' in place of Unigram") }
        pieces = try container.decode([Piece].self, forKey: .pieces)
        unknownID = try container.decodeIfPresent(Int.self, forKey: .unknownID)
        fallsBackToBytes = try container.decodeIfPresent(Bool.self, forKey: .fallsBackToBytes) ?? false
    }
}

/// `merges.txt`: a version line, then two tokens a line, first rank first.
enum MergesFile {
    static func pairs(_ contents: Data) throws -> [(left: ArraySlice<UInt8>, right: ArraySlice<UInt8>)] {
        var lines = Array(contents).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        while let last = lines.last, last.allSatisfy({ $0 == UInt8(ascii: "\r") }) { lines.removeLast() }
        return try lines.enumerated().compactMap { number, line in
            line.starts(with: "#version".utf8) ? nil : try pair(line, line: number + 1)
        }
    }

    /// The two tokens of a line.
    static func pair(
        _ line: ArraySlice<UInt8>, line number: Int
    ) throws -> (left: ArraySlice<UInt8>, right: ArraySlice<UInt8>) {
        let text = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
        let parts = text.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
            throw ContentProblem.malformed("merge \(number) is not two tokens")
        }
        return (parts[0], parts[1])
    }
}
