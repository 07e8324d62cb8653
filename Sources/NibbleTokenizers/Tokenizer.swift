/// Text in, token ids out.
public protocol Tokenizer: Sendable {
    /// How many tokens the text encoder was made for, `model_max_length`; nil where the files set no limit.
    var modelMaxLength: Int? { get }

    /// One more than the largest id that ``encode(_:)`` gives: the rows that an embedding table needs.
    var vocabularySize: Int { get }

    /// The ids that stand around every text.
    var specialTokens: SpecialTokens { get }

    /// All ids of a text with the special tokens around it, neither truncated nor padded.
    func encode(_ text: String) -> [Int32]
}

/// The ids that a tokenizer puts around a text.
public struct SpecialTokens: Sendable, Equatable {
    /// Ids before the text.
    public let start: [Int32]
    /// Ids after the text.
    public let end: [Int32]
    /// The id that fills up to a length.
    public let padding: Int32
}

extension Tokenizer {
    /// The ids as diffusers' FLUX pipeline asks for them: exactly `length`.
    ///
    /// A text that is too long loses its last tokens, never the end token. A text that is too short is filled with
    /// the padding token.
    ///
    /// - Parameters:
    ///   - text: any text, also empty.
    ///   - length: the number of ids wanted, 0 or more; usually ``modelMaxLength``.
    /// - Returns: `length` ids.
    public func encode(_ text: String, length: Int) -> [Int32] {
        precondition(length >= 0)
        let ids = encode(text)
        guard ids.count > length else {
            return ids + [Int32](repeating: specialTokens.padding, count: length - ids.count)
        }
        let end = specialTokens.end.suffix(length)
        return Array(ids.prefix(length - end.count) + end)
    }
}
