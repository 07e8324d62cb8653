/// Input that a network cannot take. A tokenizer of another model is the usual reason.
public enum ModelError: Error, Equatable, CustomStringConvertible {
    /// A token that the vocabulary of the network's embedding does not have.
    case unknownToken(id: Int32, vocabularySize: Int)
    /// More tokens than the network has positions for.
    case tooManyTokens(count: Int, maximum: Int)
    /// No token at all; every tokenizer adds at least an end token.
    case noTokens

    /// What is wrong and what to do about it, for people.
    public var description: String {
        switch self {
        case .unknownToken(let id, let vocabularySize):
            "token id \(id) is outside the text encoder's vocabulary of \(vocabularySize); "
                + "do tokenizer and text encoder belong to the same model?"
        case .tooManyTokens(let count, let maximum):
            "\(count) tokens are more than the text encoder's \(maximum) positions; shorten the prompt or let it be "
                + "truncated"
        case .noTokens: "the text encoder was given no tokens; do tokenizer and text encoder belong to the same model?"
        }
    }
}
