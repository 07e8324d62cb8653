public import Foundation

/// T5's tokenizer: a unigram model (Kudo 2018; Raffel et al. 2020), equal to transformers' `T5TokenizerFast`.
public struct T5Tokenizer: Tokenizer {
    private let pipeline: TokenPipeline<Unigram>
    /// `model_max_length` of tokenizer_config.json; nil where there is no limit.
    public let modelMaxLength: Int?

    /// One more than the largest id.
    public var vocabularySize: Int { pipeline.vocabularySize }
    /// The ids around every text, and the one that pads.
    public var specialTokens: SpecialTokens { pipeline.specialTokens }

    /// Loads a folder that holds `tokenizer.json` or `spiece.model`, with `tokenizer_config.json` and
    /// `special_tokens_map.json` where they are there. If both are there, tokenizer.json counts.
    ///
    /// - Parameter folder: `tokenizer_2` of a diffusers folder.
    /// - Throws: ``TokenizerError`` if a file is missing or cannot be understood.
    public init(folder: URL) throws(TokenizerError) {
        let files = TokenizerFolder(url: folder)
        let configuration = try files.configuration()
        if let contents = try files.contents("tokenizer.json") {
            self = try reading(files.path("tokenizer.json")) {
                try T5Tokenizer(tokenizerJSON: contents, configuration: configuration)
            }
        } else if let contents = try files.contents("spiece.model") {
            self = try reading(files.path("spiece.model")) {
                try T5Tokenizer(sentencePiece: contents, configuration: configuration)
            }
        } else {
            throw .missingFile(
                path: files.path("tokenizer.json"), advice: "a T5 tokenizer's folder holds it or spiece.model")
        }
    }

    /// From the contents of a `tokenizer.json`.
    init(tokenizerJSON: Data, configuration: TokenizerConfiguration) throws {
        let file = try JSONDecoder().decode(TokenizerFile<UnigramContents>.self, from: tokenizerJSON)
        guard file.preTokenizer?.keepsCharacters ?? true else {
            throw ContentProblem.unsupported("a pre-tokenizer of bytes")
        }
        let model = try Unigram(
            pieces: file.model.pieces.map { ($0.text, $0.score) }, unknownID: file.model.unknownID,
            fallsBackToBytes: file.model.fallsBackToBytes)
        let tokens = configuration.filled(with: Self.defaults).withSentinels
        pipeline = try TokenPipeline(
            normalizer: file.normalizer, preTokenizer: file.preTokenizer, model: model,
            added: file.addedTokens + tokens.tokens(addedTo: file.addedTokens, normalizedRoles: []),
            padding: tokens.content(of: .padding)
        ) { _ in (file.postProcessor?.start ?? [], file.postProcessor?.end ?? []) }
        modelMaxLength = configuration.modelMaxLength
    }

    /// From the contents of a `spiece.model`, with the pipeline that transformers' converter makes of it
    /// (`convert_slow_tokenizer.py`, `T5Converter`).
    init(sentencePiece: Data, configuration: TokenizerConfiguration) throws {
        let file = try SentencePieceFile(Array(sentencePiece)[...])
        let sentinels = (0..<(configuration.extraIDs ?? Self.sentinelCount)).reversed().map(Self.sentinel)
        let model = try Unigram(
            pieces: file.pieces.map { ($0.text, Double($0.score)) } + sentinels.map { ($0, 0) },
            unknownID: file.unknownID, fallsBackToBytes: false)
        let own = file.pieces.filter { $0.kind == .control || $0.kind == .userDefined }
            .map { AddedToken(content: $0.text) }
        let tokens = configuration.filled(with: Self.defaults).withSentinels
        var normalizers: [Normalizer] = [
            .strip(left: false, right: true),
            .replace(.run(of: .one(" "), minimum: 2, maximum: nil), with: Array(String(Self.spaceMark).utf8)),
        ]
        if !file.characterMap.isEmpty { normalizers.insert(.precompiled(try CharacterMap(file.characterMap)), at: 0) }
        let scheme: Metaspace.PrependScheme =
            configuration.addsPrefixSpace ? (configuration.isLegacy ? .always : .first) : .never
        pipeline = try TokenPipeline(
            normalizer: .sequence(normalizers),
            preTokenizer: .metaspace(
                Metaspace(replacement: Self.spaceMark, prependScheme: scheme, splits: true)),
            model: model, added: own + tokens.tokens(addedTo: own, normalizedRoles: []),
            padding: tokens.content(of: .padding)
        ) { id in
            // The converter takes this text whatever the end token is called.
            ([], [try id("</s>", "end")])
        }
        modelMaxLength = configuration.modelMaxLength
    }

    /// Sentencepiece's sign for a space.
    private static let spaceMark: Unicode.Scalar = "\u{2581}"

    /// What transformers' class takes where the files name no token.
    private static let defaults: [TokenizerConfiguration.Role: String] = [
        .end: "</s>", .unknown: "<unk>", .padding: "<pad>",
    ]

    /// How many sentinels T5 has where `extra_ids` does not say.
    fileprivate static let sentinelCount = 100

    /// T5's tokens for parts left out of a text.
    fileprivate static func sentinel(_ number: Int) -> String { "<extra_id_\(number)>" }

    /// All ids of a text with the special tokens around it, neither truncated nor padded.
    public func encode(_ text: String) -> [Int32] { pipeline.encode(text) }
}

extension SpecialTokenList {
    /// With T5's sentinels among the additional tokens, unless the files list them.
    fileprivate var withSentinels: SpecialTokenList {
        guard !additional.contains(where: { $0.content.contains("<extra_id_") }) else { return self }
        var list = self
        list.additional += (0..<(extraIDs ?? T5Tokenizer.sentinelCount)).map { .text(T5Tokenizer.sentinel($0)) }
        return list
    }
}
