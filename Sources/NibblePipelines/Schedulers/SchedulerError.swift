/// Why there is no schedule.
public enum SchedulerError: Error, Equatable, CustomStringConvertible {
    /// The configuration file is missing, or is no JSON of the expected types.
    case unreadable(path: String, reason: String)
    /// The configuration asks for something that is not built.
    case unsupported(key: String, value: String)
    /// A number of the configuration makes no sense.
    case invalid(key: String, value: String, expected: String)
    /// The request has no steps, or absurdly many.
    case stepsOutOfRange(Int, limit: Int)
    /// The shift of a picture of that many tokens is past what 32-bit floats hold.
    case notFinite(imageTokens: Int)

    /// What is wrong, and what to do.
    public var description: String {
        switch self {
        case .unreadable(let path, let reason): "\(path): \(reason)"
        case .unsupported(let key, let value):
            "the scheduler's configuration has \(key) = \(value), which is not built; no FLUX.1 model needs it"
        case .invalid(let key, let value, let expected):
            "the scheduler's configuration has \(key) = \(value); expected \(expected)"
        case .stepsOutOfRange(let steps, let limit): "\(steps) steps; ask for 1 to \(limit)"
        case .notFinite(let imageTokens):
            "the scheduler's configuration shifts the sigmas of \(imageTokens) image tokens past all numbers; "
                + "ask for a smaller picture, or check base_shift and max_shift"
        }
    }
}
