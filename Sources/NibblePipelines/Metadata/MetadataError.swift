/// Why a picture's text does not say how it was made.
public enum MetadataError: Error, Equatable, CustomStringConvertible {
    /// The picture holds none of the texts that are understood.
    case nothingRecorded(keys: [String])
    /// The text of a key is not what it should be.
    case malformed(key: String, reason: String)
    /// The text was written by a later version in a form that this one does not know.
    case unknownFormat(found: Int, known: Int)
    /// A value cannot be one.
    case invalidValue(key: String, value: String, expected: String)

    /// What is wrong, and what to do.
    public var description: String {
        switch self {
        case .nothingRecorded(let keys):
            "the picture does not say how it was made: it has no text "
                + keys.map { "'\($0)'" }.joined(separator: " or ") + "; was it saved again by another program?"
        case .malformed(let key, let reason): "the picture's text '\(key)' cannot be understood: \(reason)"
        case .unknownFormat(let found, let known):
            "the picture's text 'nibble' has format \(found), but this version knows format \(known); use a later nibble"
        case .invalidValue(let key, let value, let expected):
            "the picture's text has \(key) = \(value.prefix(60)); expected \(expected)"
        }
    }
}
