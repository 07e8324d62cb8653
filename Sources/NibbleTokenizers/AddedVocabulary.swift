/// A token that is found in the text before anything else happens to it.
struct AddedToken: Sendable, Equatable {
    var content: String
    /// Matches only where no letter, digit or underscore stands beside it.
    var isSingleWord = false
    /// Takes white space before it along.
    var stripsLeft = false
    /// Takes white space after it along.
    var stripsRight = false
    /// Is itself normalized, and found in the normalized text.
    var isNormalized = false
}

extension AddedToken: Decodable {
    private enum Key: String, CodingKey {
        case content, normalized, special
        case singleWord = "single_word"
        case stripsLeft = "lstrip"
        case stripsRight = "rstrip"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        content = try container.decode(String.self, forKey: .content)
        isSingleWord = try container.decodeIfPresent(Bool.self, forKey: .singleWord) ?? false
        stripsLeft = try container.decodeIfPresent(Bool.self, forKey: .stripsLeft) ?? false
        stripsRight = try container.decodeIfPresent(Bool.self, forKey: .stripsRight) ?? false
        let isSpecial = try container.decodeIfPresent(Bool.self, forKey: .special) ?? false
        isNormalized = try container.decodeIfPresent(Bool.self, forKey: .normalized) ?? !isSpecial
    }
}

/// The added tokens of a tokenizer and their ids; finds them in a text.
struct AddedVocabulary: Sendable {
    private var tokens: [AddedToken] = []
    private var ids: [Int32] = []
    private let plain: ByteTrie
    private let normalized: ByteTrie

    /// - Parameters:
    ///   - added: in order; where a content comes again, its last flags count. A content that the model knows has the
    ///     model's id; any other gets the next free one.
    ///   - model: gives the ids of its own tokens.
    ///   - normalizer: is applied to those tokens that are found in normalized text.
    /// - Throws: ``ContentProblem`` if a token is too long or its id too large.
    init(_ added: [AddedToken], model: some SubwordModel, normalizer: Normalizer?) throws {
        var places: [String: Int] = [:]
        let modelCount = Int32(clamping: model.count)
        var nextID = modelCount
        for token in added where !token.content.isEmpty {
            if let place = places[token.content] {
                tokens[place] = token
                continue
            }
            let known = model.id(of: token.content.utf8)
            let id = known ?? nextID
            guard id < Int32.max else { throw ContentProblem.malformed("'\(token.content)' has the id \(id)") }
            if id >= nextID { nextID = id + 1 }
            places[token.content] = tokens.count
            tokens.append(token)
            ids.append(id)
        }
        var plainEntries: [(key: String, value: Int32)] = []
        var normalizedEntries: [(key: String, value: Int32)] = []
        for (place, token) in tokens.enumerated() {
            guard token.isNormalized else {
                plainEntries.append((token.content, Int32(place)))
                continue
            }
            var piece = TextPiece(Array(token.content.utf8)[...], startsPrompt: true)
            normalizer?.normalize(&piece)
            guard !piece.utf8.isEmpty else { continue }
            normalizedEntries.append((String(decoding: piece.utf8, as: UTF8.self), Int32(place)))
        }
        plain = try ByteTrie(plainEntries)
        normalized = try ByteTrie(normalizedEntries)
    }

    /// The id of an added token, or nil.
    func id(of content: String) -> Int32? {
        tokens.firstIndex { $0.content == content }.map { ids[$0] }
    }

    /// The largest id, or -1.
    var maximumID: Int32 { ids.max() ?? -1 }

    /// A text between added tokens, or an added token's id.
    enum Segment {
        case text(TextPiece)
        case token(Int32)
    }

    /// Splits a prompt at the added tokens and normalizes what lies between them.
    func split(_ prompt: String, normalizer: Normalizer?) -> [Segment] {
        let whole = TextPiece(Array(prompt.utf8)[...], startsPrompt: true)
        return split(whole, at: plain).flatMap { segment -> [Segment] in
            guard case .text(var piece) = segment else { return [segment] }
            normalizer?.normalize(&piece)
            return split(piece, at: normalized)
        }
    }

    /// Finds, from left to right, the longest token at each place.
    private func split(_ piece: TextPiece, at contents: ByteTrie) -> [Segment] {
        let text = piece.utf8
        var segments: [Segment] = []
        var textStart = text.startIndex
        var index = text.startIndex
        while index < text.endIndex {
            guard let match = contents.longestPrefix(of: text[index...]) else {
                index += 1
                continue
            }
            let token = tokens[Int(match.value)]
            var start = index
            var end = index + match.length
            index = end
            if token.isSingleWord, Self.isInsideWord(start..<end, of: text) { continue }
            if token.stripsLeft { start = max(textStart, Self.whitespaceStart(before: start, in: text)) }
            if token.stripsRight { end = Self.whitespaceEnd(after: end, in: text) }
            if textStart < start { segments.append(.text(piece.slice(textStart..<start))) }
            // A token of white space that the one before it has taken along is gone.
            if start < end { segments.append(.token(ids[Int(match.value)])) }
            textStart = end
        }
        if textStart < text.endIndex { segments.append(.text(piece.slice(textStart..<text.endIndex))) }
        return segments
    }

    private static func isInsideWord(_ range: Range<Int>, of text: ArraySlice<UInt8>) -> Bool {
        let before = text[..<range.lowerBound].lastScalar
        let after = text[range.upperBound...].firstScalar
        return before?.isWordCharacter == true || after?.isWordCharacter == true
    }

    private static func whitespaceStart(before end: Int, in text: ArraySlice<UInt8>) -> Int {
        var start = end
        while let scalar = text[..<start].lastScalar, scalar.properties.isWhitespace { start -= UTF8.width(scalar) }
        return start
    }

    private static func whitespaceEnd(after start: Int, in text: ArraySlice<UInt8>) -> Int {
        var end = start
        while let scalar = text[end...].firstScalar, scalar.properties.isWhitespace { end += UTF8.width(scalar) }
        return end
    }
}

extension Unicode.Scalar {
    /// `\w` of the Rust crate `regex`: alphabetic, mark, decimal number, connector punctuation or join control.
    fileprivate var isWordCharacter: Bool {
        if properties.isAlphabetic || properties.isJoinControl { return true }
        return switch properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: true
        default: false
        }
    }
}
