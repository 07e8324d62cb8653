/// What a `Replace` normalizer looks for.
///
/// A string, or a regular expression of the few forms that tokenizers of this kind use: a plain text, or one character
/// or `\s` with `+`, `{n}` or `{n,}`. Each of these is found in one pass; a general engine would let a file hang us.
enum ReplacePattern: Sendable, Equatable {
    /// The text itself.
    case text([UInt8])
    /// At least `minimum` of a kind of scalar in a row; at most `maximum` where there is one.
    case run(of: ScalarKind, minimum: Int, maximum: Int?)

    enum ScalarKind: Sendable, Equatable {
        case one(Unicode.Scalar)
        case whitespace

        func contains(_ scalar: Unicode.Scalar) -> Bool {
            switch self {
            case .one(let wanted): scalar == wanted
            case .whitespace: scalar.properties.isWhitespace
            }
        }
    }

    /// Replaces all matches, from left to right. New text belongs to the last character that it replaces.
    func replaceMatches(in piece: inout TextPiece, with content: [UInt8]) {
        let old = piece.utf8
        var new: [UInt8] = []
        new.reserveCapacity(old.count)
        var fromFirst = 0
        var last = old.startIndex
        for match in matches(in: old) {
            fromFirst += firstCharacterBytes(of: last..<match.lowerBound, in: piece)
            new += old[last..<match.lowerBound]
            if match.upperBound - 1 - old.startIndex < piece.firstCharacterBytes { fromFirst += content.count }
            new += content
            last = match.upperBound
        }
        fromFirst += firstCharacterBytes(of: last..<old.endIndex, in: piece)
        new += old[last...]
        piece.replace(with: new, firstCharacterBytes: fromFirst)
    }

    private func firstCharacterBytes(of range: Range<Int>, in piece: TextPiece) -> Int {
        max(0, min(range.upperBound, piece.utf8.startIndex + piece.firstCharacterBytes) - range.lowerBound)
    }

    private func matches(in text: ArraySlice<UInt8>) -> [Range<Int>] {
        switch self {
        case .text(let wanted): Self.occurrences(of: wanted, in: text)
        case .run(let kind, let minimum, let maximum):
            Self.runs(of: kind, minimum: minimum, maximum: maximum, in: text)
        }
    }

    private static func occurrences(of wanted: [UInt8], in text: ArraySlice<UInt8>) -> [Range<Int>] {
        var matches: [Range<Int>] = []
        var start = text.startIndex
        while start + wanted.count <= text.endIndex {
            if text[start] == wanted[0], text[start..<(start + wanted.count)].elementsEqual(wanted) {
                matches.append(start..<(start + wanted.count))
                start += wanted.count
            } else {
                start += 1
            }
        }
        return matches
    }

    private static func runs(
        of kind: ScalarKind, minimum: Int, maximum: Int?, in text: ArraySlice<UInt8>
    ) -> [Range<Int>] {
        var matches: [Range<Int>] = []
        var start = text.startIndex
        var index = text.startIndex
        var count = 0
        func close() {
            if count >= minimum { matches.append(start..<index) }
            start = index
            count = 0
        }
        for scalar in text.unicodeScalars {
            if kind.contains(scalar) {
                index += UTF8.width(scalar)
                count += 1
                if count == maximum { close() }
            } else {
                close()
                index += UTF8.width(scalar)
                start = index
            }
        }
        close()
        return matches
    }
}

extension ReplacePattern: Decodable {
    private enum Key: String, CodingKey {
        case text = "String"
        case expression = "Regex"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        if let text = try container.decodeIfPresent(String.self, forKey: .text) {
            guard !text.isEmpty else { throw ContentProblem.unsupported("replacing an empty text") }
            self = .text(Array(text.utf8))
        } else {
            try self.init(expression: container.decode(String.self, forKey: .expression))
        }
    }

    /// Reads a regular expression of the forms above.
    init(expression: String) throws {
        let unsupported = ContentProblem.unsupported("replacing the regular expression '\(expression)'")
        var kinds: [ScalarKind] = []
        var rest = expression.unicodeScalars[...]
        while let scalar = rest.first, !"+{".unicodeScalars.contains(scalar) {
            rest.removeFirst()
            if scalar == "\\" {
                guard let escaped = rest.popFirst(), let kind = Self.escapes[escaped] else { throw unsupported }
                kinds.append(kind)
            } else if "*?.^$|()[]}".unicodeScalars.contains(scalar) {
                throw unsupported
            } else {
                kinds.append(.one(scalar))
            }
        }
        let quantifier = String(rest)
        if kinds == [.whitespace], quantifier.isEmpty {
            self = .run(of: .whitespace, minimum: 1, maximum: 1)
        } else if let range = Self.repetition(quantifier), kinds.count == 1 {
            self = .run(of: kinds[0], minimum: range.minimum, maximum: range.maximum)
        } else if quantifier.isEmpty, !kinds.isEmpty {
            var text: [UInt8] = []
            for kind in kinds {
                guard case .one(let scalar) = kind else { throw unsupported }
                text.append(scalar)
            }
            self = .text(text)
        } else {
            throw unsupported
        }
    }

    private static let escapes: [Unicode.Scalar: ScalarKind] = {
        var kinds: [Unicode.Scalar: ScalarKind] = [
            "s": .whitespace, "n": .one("\n"), "r": .one("\r"), "t": .one("\t"),
        ]
        for scalar in "\\*+?.^$|()[]{}/-'\"` ".unicodeScalars { kinds[scalar] = .one(scalar) }
        return kinds
    }()

    /// `+`, `{n}` or `{n,}`.
    private static func repetition(_ quantifier: String) -> (minimum: Int, maximum: Int?)? {
        if quantifier == "+" { return (1, nil) }
        guard quantifier.hasPrefix("{"), quantifier.hasSuffix("}") else { return nil }
        let parts = quantifier.dropFirst().dropLast().split(separator: ",", omittingEmptySubsequences: false)
        guard let first = parts.first, let minimum = Int(first), minimum > 0 else { return nil }
        switch parts.count {
        case 1: return (minimum, minimum)
        case 2 where parts[1].isEmpty: return (minimum, nil)
        default: return nil
        }
    }
}
