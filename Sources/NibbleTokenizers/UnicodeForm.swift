internal import Foundation

/// The Unicode normalization forms, as the Rust crate `unicode-normalization-alignments` applies them.
///
/// Foundation gives the decompositions of single characters; ordering and composition are done here (Unicode Standard
/// Annex 15), because Foundation on Linux gets some sequences wrong (U+0F73 with other vowel signs; tags of plane 14
/// before accents), and because of ``tableVersion``.
enum UnicodeForm: Sendable {
    case nfc, nfd, nfkc, nfkd

    /// The crate's tables are those of Unicode 9: to it, every later character is one that does not decompose, compose
    /// or move. (Found by comparing all characters with tokenizers 0.21.4 and 0.23.3.)
    private static let tableVersion = 9

    /// Below this, no character moves or is the second of a pair that composes, and in form C none changes.
    private static let firstAccent: UInt32 = 0x300

    func normalize(_ piece: inout TextPiece) {
        let text = piece.utf8
        if text.allSatisfy({ $0 < 0x80 }) { return }
        let scalars = text.unicodeScalars
        if self == .nfc, scalars.allSatisfy({ $0.value < Self.firstAccent }) { return }
        // The first character's bytes stay the first character's bytes, whatever form they take.
        let first = text.prefix(piece.firstCharacterBytes).unicodeScalars
        piece.replace(with: normalized(scalars), firstCharacterBytes: normalized(first).count)
    }

    /// A scalar and its combining class: 0 for one that others order themselves around.
    private struct Element {
        let scalar: Unicode.Scalar
        let combiningClass: UInt8
    }

    private func normalized(_ scalars: String.UnicodeScalarView) -> [UInt8] {
        var elements: [Element] = []
        elements.reserveCapacity(scalars.count)
        for scalar in scalars {
            guard !scalar.isASCII, scalar.isKnown(to: Self.tableVersion) else {
                elements.append(Element(scalar: scalar, combiningClass: 0))
                continue
            }
            for part in decomposition(of: scalar) {
                elements.append(Element(scalar: part, combiningClass: part.properties.canonicalCombiningClass.rawValue))
            }
        }
        Self.order(&elements)
        var result: [UInt8] = []
        result.reserveCapacity(elements.count)
        for element in composes ? Self.compose(elements) : elements { result.append(element.scalar) }
        return result
    }

    private var composes: Bool { self == .nfc || self == .nfkc }

    private func decomposition(of scalar: Unicode.Scalar) -> String.UnicodeScalarView {
        let text = String(scalar)
        switch self {
        case .nfc, .nfd: return text.decomposedStringWithCanonicalMapping.unicodeScalars
        case .nfkc, .nfkd: return text.decomposedStringWithCompatibilityMapping.unicodeScalars
        }
    }

    /// Sorts each run of marks by combining class; marks of one class keep their order.
    private static func order(_ elements: inout [Element]) {
        var start = 0
        while start < elements.count {
            guard elements[start].combiningClass > 0 else {
                start += 1
                continue
            }
            let end = elements[start...].firstIndex { $0.combiningClass == 0 } ?? elements.count
            if end - start > 1 {
                let ordered = elements[start..<end].enumerated().sorted {
                    ($0.element.combiningClass, $0.offset) < ($1.element.combiningClass, $1.offset)
                }
                elements.replaceSubrange(start..<end, with: ordered.map(\.element))
            }
            start = end
        }
    }

    /// Joins each mark to the last starter before it, unless another mark of its class or above lies between.
    private static func compose(_ elements: [Element]) -> [Element] {
        var result: [Element] = []
        result.reserveCapacity(elements.count)
        var starter: Int?
        for element in elements {
            if let place = starter {
                let isBlocked =
                    result.count - 1 > place
                    && (result.last?.combiningClass ?? 0) >= element.combiningClass
                if !isBlocked, let composite = composite(result[place].scalar, element.scalar) {
                    result[place] = Element(scalar: composite, combiningClass: 0)
                    continue
                }
            }
            if element.combiningClass == 0 { starter = result.count }
            result.append(element)
        }
        return result
    }

    /// The one character that two are, or nil. Only a character that decomposes into the two again is taken.
    private static func composite(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Unicode.Scalar? {
        guard second.value >= firstAccent else { return nil }
        if let syllable = Hangul.syllable(first, second) { return syllable }
        let own = String(first).decomposedStringWithCanonicalMapping.unicodeScalars
        var text = String(own)
        text.unicodeScalars.append(second)
        let composed = text.precomposedStringWithCanonicalMapping.unicodeScalars
        guard let composite = composed.first, composed.count == 1, composite.isKnown(to: tableVersion) else {
            return nil
        }
        let parts = String(composite).decomposedStringWithCanonicalMapping.unicodeScalars
        guard parts.count == own.count + 1, parts.starts(with: own), parts.last == second else { return nil }
        return composite
    }
}

/// Hangul syllables, which compose by arithmetic (Unicode Standard, section 3.12).
private enum Hangul {
    private static let leads: Range<UInt32> = 0x1100..<0x1113
    private static let vowels: Range<UInt32> = 0x1161..<0x1176
    private static let trails: Range<UInt32> = 0x11A8..<0x11C3
    private static let syllables: Range<UInt32> = 0xAC00..<0xD7A4
    /// A syllable without a trailing consonant is followed by the 27 with one.
    private static let trailCount: UInt32 = 28

    /// The syllable of a lead and a vowel, or of a syllable without trail and a trail.
    static func syllable(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Unicode.Scalar? {
        if leads.contains(first.value), vowels.contains(second.value) {
            let place = (first.value - leads.lowerBound) * UInt32(vowels.count) + second.value - vowels.lowerBound
            return Unicode.Scalar(syllables.lowerBound + place * trailCount)
        }
        if syllables.contains(first.value), (first.value - syllables.lowerBound) % trailCount == 0,
            trails.contains(second.value)
        {
            return Unicode.Scalar(first.value + second.value - trails.lowerBound + 1)
        }
        return nil
    }
}

extension Unicode.Scalar {
    /// Whether the scalar was assigned in that major version of Unicode or before.
    func isKnown(to version: Int) -> Bool {
        guard let age = properties.age else { return false }
        return age.major < version || (age.major == version && age.minor == 0)
    }
}
