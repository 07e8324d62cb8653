/// Why a model cannot be quantized.
public enum QuantizationError: Error, Equatable, CustomStringConvertible {
    /// A recipe asks for what is not possible.
    case invalidRecipe(key: String, found: String, expected: String)
    /// A layer's input was NaN or infinity while the model ran.
    case notFinite(block: String, layer: String)
    /// What the model is shown does not fit into memory.
    case tooLarge(what: String, bytes: Int, limit: Int, advice: String)
    /// A journal was begun with other arguments.
    case otherArguments(path: String, key: String, found: String, expected: String)
    /// A journal is of another version of the program, or not one.
    case unreadableJournal(path: String, reason: String)

    /// What is wrong and what to do about it, for people.
    public var description: String {
        switch self {
        case .invalidRecipe(let key, let found, let expected): "\(key): found \(found); expected \(expected)"
        case .notFinite(let block, let layer):
            "the input of \(layer) in \(block) holds NaN or infinity while the model runs: check the model's weights with "
                + "'nibble inspect --verify', or run it with --precision f32"
        case .tooLarge(let what, let bytes, let limit, let advice):
            "\(what) takes \(bytes >> 20) MiB of the \(limit >> 20) MiB that there are; \(advice)"
        case .otherArguments(let path, let key, let found, let expected):
            "\(path): this run was begun with \(key) \(found), not \(expected); go on with that, name another output, or "
                + "delete the folder to begin again"
        case .unreadableJournal(let path, let reason):
            "\(path): \(reason); name another output, or delete the folder to begin again"
        }
    }
}
