/// What happens to a text before it is split, as `normalizer` in a tokenizer.json says.
indirect enum Normalizer: Sendable {
    case sequence([Normalizer])
    case precompiled(CharacterMap)
    case replace(ReplacePattern, with: [UInt8])
    case strip(left: Bool, right: Bool)
    case unicode(UnicodeForm)
    case lowercase
    case prepend([UInt8])

    func normalize(_ piece: inout TextPiece) {
        switch self {
        case .sequence(let normalizers):
            for normalizer in normalizers { normalizer.normalize(&piece) }
        case .precompiled(let map): map.normalize(&piece)
        case .replace(let pattern, let content): pattern.replaceMatches(in: &piece, with: content)
        case .strip(let left, let right): piece.strip(left: left, right: right)
        case .unicode(let form): form.normalize(&piece)
        case .lowercase: Self.lowercase(&piece)
        case .prepend(let prefix): piece.prepend(prefix)
        }
    }

    /// Rust's `char::to_lowercase` for each scalar by itself: no final sigma, no language's own rules.
    private static func lowercase(_ piece: inout TextPiece) {
        let text = piece.utf8
        if text.allSatisfy({ $0 < 0x80 }) {
            let lowered = text.map { UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 ? $0 | 0x20 : $0 }
            piece.replace(with: lowered, firstCharacterBytes: piece.firstCharacterBytes)
            return
        }
        var edits = ScalarEdits()
        for scalar in text.unicodeScalars { edits.replace(1, with: scalar.properties.lowercaseMapping.unicodeScalars) }
        piece.apply(edits)
    }
}

extension Normalizer: Decodable {
    private enum Key: String, CodingKey {
        case type, normalizers, pattern, content, prepend
        case stripLeft = "strip_left"
        case stripRight = "strip_right"
        case characterMap = "precompiled_charsmap"
    }

    init(from decoder: any Decoder) throws {
        try decoder.checkDepth()
        let container = try decoder.container(keyedBy: Key.self)
        let type = try container.decode(String.self, forKey: .type)
        switch type {
        case "Sequence": self = .sequence(try container.decode([Normalizer].self, forKey: .normalizers))
        case "Precompiled": self = .precompiled(try container.decode(CharacterMap.self, forKey: .characterMap))
        case "Replace":
            let content = try container.decode(String.self, forKey: .content)
            self = .replace(
                try container.decode(ReplacePattern.self, forKey: .pattern), with: Array(content.utf8))
        case "Strip":
            self = .strip(
                left: try container.decode(Bool.self, forKey: .stripLeft),
                right: try container.decode(Bool.self, forKey: .stripRight))
        case "NFC": self = .unicode(.nfc)
        case "NFD": self = .unicode(.nfd)
        case "NFKC": self = .unicode(.nfkc)
        case "NFKD": self = .unicode(.nfkd)
        case "Lowercase": self = .lowercase
        case "Prepend": self = .prepend(Array(try container.decode(String.self, forKey: .prepend).utf8))
        default: throw ContentProblem.unsupported("the normalizer '\(type)'")
        }
    }
}

extension Decoder {
    /// Refuses JSON that nests more deeply than any tokenizer does, before it fills the stack.
    func checkDepth() throws {
        guard codingPath.count <= 32 else { throw ContentProblem.malformed("its parts are nested too deeply") }
    }
}
