/// A piece of the prompt on its way to tokens, as UTF-8.
///
/// Hugging Face's tokenizers keep, for every byte, where in the prompt it came from. One question is ever asked of
/// that: does a piece begin at the prompt's first character (`prepend_scheme: first`)? Origins never go backwards along
/// a piece, so the number of leading bytes that came from the first character answers it.
struct TextPiece: Sendable {
    /// The text; always valid UTF-8.
    private(set) var utf8: ArraySlice<UInt8>
    /// Whether the piece was cut off at the prompt's first character.
    private(set) var startsPrompt: Bool
    /// How many leading bytes came from the prompt's first character.
    private(set) var firstCharacterBytes: Int

    /// A piece of the prompt itself.
    init(_ utf8: ArraySlice<UInt8>, startsPrompt: Bool) {
        self.utf8 = utf8
        self.startsPrompt = startsPrompt
        firstCharacterBytes = startsPrompt ? (utf8.firstScalar.map(UTF8.width) ?? 0) : 0
    }

    private init(_ utf8: ArraySlice<UInt8>, firstCharacterBytes: Int) {
        self.utf8 = utf8
        self.startsPrompt = firstCharacterBytes > 0
        self.firstCharacterBytes = firstCharacterBytes
    }

    /// The part in `range`, which are indices of ``utf8``.
    func slice(_ range: Range<Int>) -> TextPiece {
        let skipped = range.lowerBound - utf8.startIndex
        return TextPiece(utf8[range], firstCharacterBytes: startsPrompt ? max(0, firstCharacterBytes - skipped) : 0)
    }

    /// Puts other text in place, of which `firstCharacterBytes` come from the prompt's first character.
    mutating func replace(with utf8: [UInt8], firstCharacterBytes: Int) {
        self.utf8 = utf8[...]
        self.firstCharacterBytes = startsPrompt ? firstCharacterBytes : 0
    }

    /// Puts text before the piece, unless it is empty.
    mutating func prepend(_ prefix: [UInt8]) {
        guard !utf8.isEmpty else { return }
        replace(
            with: prefix + utf8, firstCharacterBytes: firstCharacterBytes > 0 ? firstCharacterBytes + prefix.count : 0)
    }

    /// Removes white space at the ends.
    mutating func strip(left: Bool, right: Bool) {
        var start = utf8.startIndex
        var end = utf8.endIndex
        while left, start < end, let scalar = utf8[start..<end].firstScalar, scalar.properties.isWhitespace {
            start += UTF8.width(scalar)
        }
        while right, start < end, let scalar = utf8[start..<end].lastScalar, scalar.properties.isWhitespace {
            end -= UTF8.width(scalar)
        }
        firstCharacterBytes = max(0, min(firstCharacterBytes - (start - utf8.startIndex), end - start))
        utf8 = utf8[start..<end]
    }

    /// Puts edited text in place.
    mutating func apply(_ edits: ScalarEdits) {
        var text: [UInt8] = []
        text.reserveCapacity(utf8.count)
        for edit in edits.scalars { text.append(edit.scalar) }
        replace(with: text, firstCharacterBytes: firstCharacterBytes(after: edits))
    }

    /// Follows the edits from the left as long as they concern the first character.
    private func firstCharacterBytes(after edits: ScalarEdits) -> Int {
        var old = utf8.unicodeScalars.makeIterator()
        var offset = 0
        var count = 0
        for edit in edits.scalars {
            let source = edit.change > 0 ? offset - 1 : offset
            guard source < firstCharacterBytes else { break }
            count += UTF8.width(edit.scalar)
            if edit.change <= 0 {
                for _ in 0...(-edit.change) { offset += old.next().map(UTF8.width) ?? 0 }
            }
        }
        return count
    }
}

/// New text for a piece, scalar by scalar, each with what it does to the old text: 0 takes the place of one scalar,
/// 1 is put in, -n takes the place of one scalar and of the n after it.
struct ScalarEdits {
    private(set) var scalars: [(scalar: Unicode.Scalar, change: Int)] = []

    mutating func keep(_ scalar: Unicode.Scalar) {
        scalars.append((scalar, 0))
    }

    /// Takes `new` for `oldCount` scalars.
    mutating func replace(_ oldCount: Int, with new: some Sequence<Unicode.Scalar>) {
        let start = scalars.count
        for scalar in new { scalars.append((scalar, 0)) }
        let difference = scalars.count - start - oldCount
        if difference > 0 {
            for index in (scalars.count - difference)..<scalars.count { scalars[index].change = 1 }
        } else if !scalars.isEmpty {
            scalars[scalars.count - 1].change += difference
        }
    }
}

extension ArraySlice<UInt8> {
    /// The text as Unicode scalars.
    var unicodeScalars: String.UnicodeScalarView { String(decoding: self, as: UTF8.self).unicodeScalars }

    /// The first scalar of valid UTF-8, found without reading what lies behind it.
    var firstScalar: Unicode.Scalar? {
        guard let byte = first else { return nil }
        return byte < 0x80 ? Unicode.Scalar(byte) : prefix(4).unicodeScalars.first
    }

    /// The last scalar of valid UTF-8, found without reading what lies before it.
    var lastScalar: Unicode.Scalar? {
        guard let start = lastIndex(where: { !UTF8.isContinuation($0) }) else { return nil }
        return self[start...].firstScalar
    }
}

extension [UInt8] {
    mutating func append(_ scalar: Unicode.Scalar) {
        if scalar.isASCII {
            append(UInt8(truncatingIfNeeded: scalar.value))
        } else {
            append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
        }
    }
}
