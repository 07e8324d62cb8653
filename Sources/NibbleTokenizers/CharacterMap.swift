internal import Foundation

/// SentencePiece's precompiled character map: a trie of character sequences and the texts that take their place.
///
/// Layout (sentencepiece, `normalizer.cc`, `EncodePrecompiledCharsMap`), little-endian: the trie's size in bytes as
/// u32; the trie as u32 units of darts-clone's double array; then the replacements as UTF-8, each ended by a zero byte.
/// A unit holds: bits 0-7 and 31 the byte that leads to it, bit 8 whether a value follows, bits 10-30 the distance to
/// its children, shifted by 8 more if bit 9 is set. A unit with bit 31 set is a value: the place of a replacement.
struct CharacterMap: Sendable {
    private let units: [UInt32]
    private let replacements: [UInt8]

    init(_ bytes: some Collection<UInt8>) throws {
        let bytes = Array(bytes)
        guard bytes.count >= 4 else { throw ContentProblem.malformed("the character map is cut short") }
        let trieSize = Int(Self.littleEndian(bytes, at: 0))
        guard trieSize >= 4, trieSize % 4 == 0, trieSize <= bytes.count - 4 else {
            throw ContentProblem.malformed(
                "the character map says that its trie has \(trieSize) bytes, of \(bytes.count - 4)")
        }
        units = (0..<trieSize / 4).map { Self.littleEndian(bytes, at: 4 + 4 * $0) }
        replacements = Array(bytes[(4 + trieSize)...])
        guard String(validating: replacements, as: UTF8.self) != nil else {
            throw ContentProblem.malformed("the character map's replacements are not UTF-8")
        }
        try validate()
    }

    /// Replaces what the map knows, by grapheme clusters as the Rust crate `spm_precompiled` does it: a cluster of less
    /// than 6 bytes whose beginning is in the map is replaced whole, otherwise each scalar is looked up by itself.
    func normalize(_ piece: inout TextPiece) {
        var edits = ScalarEdits()
        for cluster in String(decoding: piece.utf8, as: UTF8.self) {
            let scalars = cluster.unicodeScalars
            if cluster.utf8.count < 6, let replacement = replacement(forPrefixOf: cluster.utf8) {
                edits.replace(scalars.count, with: replacement.unicodeScalars)
                continue
            }
            for scalar in scalars {
                if let replacement = replacement(forPrefixOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter) {
                    edits.replace(1, with: replacement.unicodeScalars)
                } else {
                    edits.keep(scalar)
                }
            }
        }
        piece.apply(edits)
    }

    /// The replacement of the shortest sequence in the map that `key` begins with.
    private func replacement(forPrefixOf key: some Sequence<UInt8>) -> ArraySlice<UInt8>? {
        var position = Self.offset(units[0])
        for byte in key {
            guard byte != 0 else { return nil }
            position ^= Int(byte)
            guard position < units.count, Self.label(units[position]) == UInt32(byte) else { return nil }
            let unit = units[position]
            position ^= Self.offset(unit)
            if Self.hasValue(unit), position < units.count {
                let start = Int(Self.value(units[position]))
                return replacements[start...].prefix { $0 != 0 }
            }
        }
        return nil
    }

    /// Checks every unit, so that a damaged map is found when it is loaded, not when a prompt meets the place.
    private func validate() throws {
        for (position, unit) in units.enumerated() {
            if Self.isValue(unit) {
                let start = Int(Self.value(unit))
                guard start <= replacements.count,
                    start == replacements.count || !UTF8.isContinuation(replacements[start])
                else { throw ContentProblem.malformed("the character map points to \(start), where no text begins") }
            } else {
                let children = position ^ Self.offset(unit)
                guard children < units.count else {
                    throw ContentProblem.malformed(
                        "the character map's trie points to unit \(children) of \(units.count)")
                }
                guard !Self.hasValue(unit) || Self.isValue(units[children]) else {
                    throw ContentProblem.malformed("the character map's trie lacks the value of unit \(position)")
                }
            }
        }
    }

    private static func littleEndian(_ bytes: [UInt8], at offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) }
    }

    private static func isValue(_ unit: UInt32) -> Bool { unit >> 31 == 1 }
    private static func value(_ unit: UInt32) -> UInt32 { unit & 0x7FFF_FFFF }
    private static func hasValue(_ unit: UInt32) -> Bool { unit >> 8 & 1 == 1 }
    private static func label(_ unit: UInt32) -> UInt32 { unit & 0x8000_00FF }
    private static func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << (unit & 1 << 9 == 0 ? 0 : 8) }
}

extension CharacterMap: Decodable {
    init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let bytes = Data(base64Encoded: text) else {
            throw ContentProblem.malformed("the character map is not base64")
        }
        try self.init(bytes)
    }
}
