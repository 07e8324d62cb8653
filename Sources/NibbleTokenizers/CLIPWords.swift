/// CLIP's words: `'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, and white space dropped.
///
/// (Radford et al. 2021, `clip/simple_tokenizer.py`.)
enum CLIPWords {
    /// The expression as transformers writes it, and an equal one.
    static let expressions: Set<String> = [
        #"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#,
        #"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"#,
    ]

    /// What the expression asks of a character.
    private enum Kind {
        case letter, number, space, other
    }

    /// Oniguruma, which runs the expression in Hugging Face's tokenizers, knows the letters and numbers of Unicode 16.
    /// (Found by comparing all characters with tokenizers 0.21.4 and 0.23.3.)
    private static let tableVersion = 16

    private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map { Array($0.utf8) }

    static func split(_ piece: TextPiece) -> [TextPiece] {
        let text = piece.utf8
        var words: [TextPiece] = []
        var index = text.startIndex
        while let first = character(at: index, in: text) {
            let start = index
            if let length = contraction(at: index, in: text) {
                index += length
            } else {
                index += first.width
                // Letters stand together, and so does what is neither letter, number nor space; numbers stand alone.
                while first.kind != .number, let next = character(at: index, in: text), next.kind == first.kind {
                    index += next.width
                }
            }
            if first.kind != .space { words.append(piece.slice(start..<index)) }
        }
        return words
    }

    private static func character(at index: Int, in text: ArraySlice<UInt8>) -> (kind: Kind, width: Int)? {
        text[index...].firstScalar.map { (kind(of: $0), UTF8.width($0)) }
    }

    private static func contraction(at index: Int, in text: ArraySlice<UInt8>) -> Int? {
        guard text[index] == UInt8(ascii: "'") else { return nil }
        return contractions.first { text[index...].starts(with: $0) }?.count
    }

    private static func kind(of scalar: Unicode.Scalar) -> Kind {
        if scalar.isASCII {
            switch UInt8(truncatingIfNeeded: scalar.value) {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): return .letter
            case UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
            default: return scalar.properties.isWhitespace ? .space : .other
            }
        }
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            return scalar.isKnown(to: tableVersion) ? .letter : .other
        case .decimalNumber, .letterNumber, .otherNumber:
            return scalar.isKnown(to: tableVersion) ? .number : .other
        default: return scalar.properties.isWhitespace ? .space : .other
        }
    }
}
