/// How a normalized text is split into words, as `pre_tokenizer` in a tokenizer.json says.
enum PreTokenizer: Sendable, Equatable {
    case sequence([PreTokenizer])
    /// CLIP's words; see ``CLIPWords``.
    case clipWords
    /// Each byte stands for itself in the vocabulary. The model reads bytes, so there is nothing to do.
    case byteLevel
    /// Splits at white space and drops it.
    case whitespaceSplit
    case metaspace(Metaspace)

    /// The words of a piece; none is empty.
    func split(_ piece: TextPiece) -> [TextPiece] {
        switch self {
        case .sequence(let parts):
            parts.reduce([piece]) { pieces, part in pieces.flatMap { part.split($0) } }
        case .clipWords: CLIPWords.split(piece)
        case .byteLevel: [piece]
        case .whitespaceSplit: Self.splitAtWhitespace(piece)
        case .metaspace(let metaspace): metaspace.split(piece)
        }
    }

    /// Whether the words keep the text's own characters, as a Unigram model needs them.
    var keepsCharacters: Bool {
        switch self {
        case .sequence(let parts): parts.allSatisfy(\.keepsCharacters)
        case .whitespaceSplit, .metaspace: true
        case .clipWords, .byteLevel: false
        }
    }

    private static func splitAtWhitespace(_ piece: TextPiece) -> [TextPiece] {
        var words: [TextPiece] = []
        var start = piece.utf8.startIndex
        var index = start
        for scalar in piece.utf8.unicodeScalars {
            let end = index + UTF8.width(scalar)
            if scalar.properties.isWhitespace {
                if start < index { words.append(piece.slice(start..<index)) }
                start = end
            }
            index = end
        }
        if start < index { words.append(piece.slice(start..<index)) }
        return words
    }
}

/// SentencePiece's way to keep spaces: a visible character takes the place of each and begins a word.
struct Metaspace: Sendable, Equatable {
    /// Which pieces get the character put before them.
    enum PrependScheme: String, Decodable, Sendable {
        /// The piece that begins the prompt.
        case first
        /// None.
        case never
        /// All.
        case always
    }

    let replacement: Unicode.Scalar
    let prependScheme: PrependScheme
    let splits: Bool

    /// The words of a piece: each begins with the replacement, but the first where none is put before it.
    func split(_ piece: TextPiece) -> [TextPiece] {
        var mark: [UInt8] = []
        mark.append(replacement)
        var piece = piece
        ReplacePattern.text([UInt8(ascii: " ")]).replaceMatches(in: &piece, with: mark)
        let wantsMark =
            switch prependScheme {
            case .always: true
            case .first: piece.startsPrompt
            case .never: false
            }
        if wantsMark, !piece.utf8.starts(with: mark) { piece.prepend(mark) }
        guard splits else { return [piece] }

        let text = piece.utf8
        var words: [TextPiece] = []
        var start = text.startIndex
        for index in text.indices.dropFirst() where text[index] == mark[0] && text[index...].starts(with: mark) {
            words.append(piece.slice(start..<index))
            start = index
        }
        words.append(piece.slice(start..<text.endIndex))
        return words
    }
}

extension PreTokenizer: Decodable {
    private enum Key: String, CodingKey {
        case type, pattern, behavior, invert, replacement, split
        case parts = "pretokenizers"
        case addPrefixSpace = "add_prefix_space"
        case prependScheme = "prepend_scheme"
    }

    private enum PatternKey: String, CodingKey {
        case expression = "Regex"
    }

    init(from decoder: any Decoder) throws {
        try decoder.checkDepth()
        let container = try decoder.container(keyedBy: Key.self)
        let type = try container.decode(String.self, forKey: .type)
        switch type {
        case "Sequence": self = .sequence(try container.decode([PreTokenizer].self, forKey: .parts))
        case "Split":
            let pattern = try container.nestedContainer(keyedBy: PatternKey.self, forKey: .pattern)
            guard try CLIPWords.expressions.contains(pattern.decode(String.self, forKey: .expression)),
                try container.decode(String.self, forKey: .behavior) == "Removed",
                try container.decode(Bool.self, forKey: .invert)
            else { throw ContentProblem.unsupported("splitting with another expression than CLIP's") }
            self = .clipWords
        case "ByteLevel":
            guard try container.decode(Bool.self, forKey: .addPrefixSpace) == false else {
                throw ContentProblem.unsupported("a space before the text")
            }
            self = .byteLevel
        case "WhitespaceSplit": self = .whitespaceSplit
        case "Metaspace": self = .metaspace(try Self.metaspace(container))
        default: throw ContentProblem.unsupported("the pre-tokenizer '\(type)'")
        }
    }

    private static func metaspace(_ container: KeyedDecodingContainer<Key>) throws -> Metaspace {
        let replacement = try container.decode(String.self, forKey: .replacement).unicodeScalars
        guard let scalar = replacement.first, replacement.count == 1 else {
            throw ContentProblem.malformed("Metaspace's replacement is not one character")
        }
        // Files written before prepend_scheme was there have only add_prefix_space.
        let addsPrefix = try container.decodeIfPresent(Bool.self, forKey: .addPrefixSpace) ?? true
        let scheme = try container.decodeIfPresent(Metaspace.PrependScheme.self, forKey: .prependScheme)
        guard addsPrefix || scheme == nil || scheme == .never else {
            throw ContentProblem.malformed("Metaspace's add_prefix_space and prepend_scheme contradict each other")
        }
        return Metaspace(
            replacement: scalar, prependScheme: addsPrefix ? scheme ?? .always : .never,
            splits: try container.decodeIfPresent(Bool.self, forKey: .split) ?? true)
    }
}
