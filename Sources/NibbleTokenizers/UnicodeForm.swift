internal import Foundation

/// The Unicode normalization forms, as the Rust crate `unicode-normalization-alignments` applies them.
enum UnicodeForm: Sendable {
    case nfc, nfd, nfkc, nfkd

    /// The crate's tables are those of Unicode 11: to it, every later character is one that does not decompose, compose
    /// or move. (Found by comparing all characters; the crate's version 0.1.12 is the last.)
    private static let tableVersion = 11

    func normalize(_ piece: inout TextPiece) {
        let text = piece.utf8
        if text.allSatisfy({ $0 < 0x80 }) { return }
        // The first character's bytes stay the first character's bytes, whatever form they take.
        let first = text.prefix(piece.firstCharacterBytes).unicodeScalars
        piece.replace(
            with: normalized(text.unicodeScalars), firstCharacterBytes: normalized(first).count)
    }

    /// Normalizes the runs between characters that the tables do not know.
    private func normalized(_ scalars: String.UnicodeScalarView) -> [UInt8] {
        var result: [UInt8] = []
        var known = String.UnicodeScalarView()
        for scalar in scalars {
            if scalar.isASCII || scalar.isKnown(to: Self.tableVersion) {
                known.append(scalar)
            } else {
                result.append(contentsOf: apply(String(known)).utf8)
                result.append(scalar)
                known = String.UnicodeScalarView()
            }
        }
        result.append(contentsOf: apply(String(known)).utf8)
        return result
    }

    private func apply(_ text: String) -> String {
        switch self {
        case .nfc: text.precomposedStringWithCanonicalMapping
        case .nfd: text.decomposedStringWithCanonicalMapping
        case .nfkc: text.precomposedStringWithCompatibilityMapping
        case .nfkd: text.decomposedStringWithCompatibilityMapping
        }
    }
}

extension Unicode.Scalar {
    /// Whether the scalar was assigned in that major version of Unicode or before.
    func isKnown(to version: Int) -> Bool {
        guard let age = properties.age else { return false }
        return age.major < version || (age.major == version && age.minor == 0)
    }
}
