public import Foundation

/// CLIP's tokenizer: byte-level byte-pair encoding (Radford et al. 2021), equal to transformers' `CLIPTokenizerFast`.
public struct CLIPTokenizer: Tokenizer {
    private let pipeline: TokenPipeline<BytePairEncoding>
    /// `model_max_length` of tokenizer_config.json; nil where there is no limit.
    public let modelMaxLength: Int?

    /// One more than the largest id.
    public var vocabularySize: Int { pipeline.vocabularySize }
    /// The ids around every text, and the one that pads.
    public var specialTokens: SpecialTokens { pipeline.specialTokens }

    /// Loads a folder that holds `tokenizer.json`, or `vocab.json` and `merges.txt`; with `tokenizer_config.json` and
    /// `special_tokens_map.json` where they are there. If all are there, tokenizer.json counts.
    ///
    /// - Parameter folder: `tokenizer` of a diffusers folder.
    /// - Throws: ``TokenizerError`` if a file is missing or cannot be understood.
    public init(folder: URL) throws(TokenizerError) {
        let files = TokenizerFolder(url: folder)
        let configuration = try files.configuration()
        if let contents = try files.contents("tokenizer.json") {
            self = try reading(files.path("tokenizer.json")) {
                try CLIPTokenizer(tokenizerJSON: contents, configuration: configuration)
            }
            return
        }
        guard let vocabulary = try files.contents("vocab.json") else {
            throw .missingFile(
                path: files.path("vocab.json"),
                advice: "a CLIP tokenizer's folder holds vocab.json and merges.txt, or tokenizer.json")
        }
        guard let merges = try files.contents("merges.txt") else {
            throw .missingFile(path: files.path("merges.txt"), advice: "it belongs to the vocab.json beside it")
        }
        let entries = try reading(files.path("vocab.json")) {
            try JSONDecoder().decode([String: Int32].self, from: vocabulary)
        }
        let pairs = try reading(files.path("merges.txt")) { try MergesFile.pairs(merges) }
        self = try reading(files.path("vocab.json")) {
            try CLIPTokenizer(vocabulary: entries, merges: pairs, configuration: configuration)
        }
    }

    /// From the contents of a `tokenizer.json`.
    init(tokenizerJSON: Data, configuration: TokenizerConfiguration) throws {
        let file = try JSONDecoder().decode(TokenizerFile<BytePairContents>.self, from: tokenizerJSON)
        guard file.preTokenizer == .sequence([.clipWords, .byteLevel]) else {
            throw ContentProblem.unsupported("another pre-tokenizer than CLIP's")
        }
        let contents = file.model
        let model = try BytePairEncoding(
            vocabulary: contents.vocabulary, merges: contents.merges, endOfWordSuffix: contents.endOfWordSuffix,
            unknownToken: contents.unknownToken, fusesUnknown: contents.fusesUnknown)
        let tokens = configuration.filled(with: Self.defaults)
        pipeline = try TokenPipeline(
            normalizer: file.normalizer, preTokenizer: file.preTokenizer, model: model,
            added: file.addedTokens + tokens.tokens(addedTo: file.addedTokens, normalizedRoles: []),
            padding: tokens.content(of: .padding)
        ) { _ in (file.postProcessor?.start ?? [], file.postProcessor?.end ?? []) }
        modelMaxLength = configuration.modelMaxLength
    }

    /// From the contents of `vocab.json` and `merges.txt`, with the pipeline that transformers makes of them.
    init(
        vocabulary: [String: Int32], merges: [(left: ArraySlice<UInt8>, right: ArraySlice<UInt8>)],
        configuration: TokenizerConfiguration
    ) throws {
        let tokens = configuration.filled(with: Self.defaults)
        let model = try BytePairEncoding(
            vocabulary: vocabulary, merges: merges, endOfWordSuffix: "</w>",
            unknownToken: tokens.content(of: .unknown), fusesUnknown: false)
        pipeline = try TokenPipeline(
            normalizer: .sequence([
                .unicode(.nfc), .replace(.run(of: .whitespace, minimum: 1, maximum: nil), with: [UInt8(ascii: " ")]),
                .lowercase,
            ]),
            preTokenizer: .sequence([.clipWords, .byteLevel]), model: model,
            // transformers wraps the texts of these three tokens so that they are found in normalized text.
            added: tokens.tokens(addedTo: [], normalizedRoles: [.beginning, .end, .unknown]),
            padding: tokens.content(of: .padding)
        ) { id in
            ([try id(tokens.content(of: .beginning), "start")], [try id(tokens.content(of: .end), "end")])
        }
        modelMaxLength = configuration.modelMaxLength
    }

    /// What transformers' class takes where the files name no token.
    private static let defaults: [TokenizerConfiguration.Role: String] = [
        .beginning: "<|startoftext|>", .end: "<|endoftext|>", .unknown: "<|endoftext|>", .padding: "<|endoftext|>",
    ]

    /// All ids of a text with the special tokens around it, neither truncated nor padded.
    public func encode(_ text: String) -> [Int32] { pipeline.encode(text) }
}
