/// What can be wrong with a request for a picture, or with its making.
public enum PipelineError: Error, Equatable, CustomStringConvertible {
    /// A value of the request that cannot be used.
    case invalidRequest(parameter: String, found: String, expected: String)
    /// A component of the model does not fit another one.
    case inconsistentModel(path: String, reason: String)
    /// A network's result holds NaN or infinity although its weights do not.
    case notFinite(stage: String)

    /// What is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .invalidRequest(let parameter, let found, let expected):
            "\(parameter): found \(found); expected \(expected)"
        case .inconsistentModel(let path, let reason): "\(path): \(reason)"
        case .notFinite(let stage):
            "\(stage) gave numbers that are not finite, although all its weights are; with --precision bf16, try f32"
        }
    }
}
