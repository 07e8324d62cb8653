/// What can be wrong with a request for a picture, or with its making.
public enum PipelineError: Error, Equatable, CustomStringConvertible {
    /// A value of the request that cannot be used.
    case invalidRequest(parameter: String, found: String, expected: String)
    /// A component of the model does not fit another one.
    case inconsistentModel(path: String, reason: String)
    /// The activations alone take more memory than there is.
    case tooLarge(stage: String, bytes: Int, limit: Int)
    /// Weights that have to be brought into the kernels' order, and cannot leave memory, do not fit.
    case cannotStream(bytes: Int, beside: Int, limit: Int)
    /// A network's result holds NaN or infinity although its weights do not.
    case notFinite(stage: String)

    /// What is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .invalidRequest(let parameter, let found, let expected):
            "\(parameter): found \(found); expected \(expected)"
        case .inconsistentModel(let path, let reason): "\(path): \(reason)"
        case .tooLarge(let stage, let bytes, let limit):
            "\(stage) of a picture of this size takes about \(bytes >> 20) MiB beside the weights; there are "
                + "\(limit >> 20) MiB; choose a smaller picture, or more with --memory"
        case .cannotStream(let bytes, let activations, let limit):
            "this form of 4-bit weights takes \(bytes >> 20) MiB in the kernels' order, beside \(activations >> 20) MiB "
                + "for the picture; there are \(limit >> 20) MiB; 'nibble convert FILE --to nibble' makes a file that is "
                + "read block by block"
        case .notFinite(let stage):
            "\(stage) gave numbers that are not finite, although all its weights are; with --precision bf16, try f32"
        }
    }
}
