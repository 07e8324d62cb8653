/// Why a layer cannot be quantized.
public enum LayerError: Error, Equatable, CustomStringConvertible {
    /// There is NaN or infinity in a layer's weights or in what is known of its inputs.
    case notFinite(layer: String, what: String)
    /// A shape that the 4-bit format has no place for, or shapes that do not fit each other.
    case wrongShape(layer: String, reason: String)
    /// The recipe asks for what only inputs can tell, and there are none.
    case inputsNeeded(layer: String, for: String)
    /// There is no LAPACK that computes rightly.
    case noLAPACK(found: String)
    /// A factorization did not succeed.
    case notFactorized(layer: String, reason: String)

    /// What is wrong, where, and what to do.
    public var description: String {
        switch self {
        case .notFinite(let layer, let what):
            "\(layer): NaN or infinity in \(what); "
                + (what.contains("weight") || what.contains("bias")
                    ? "check the model with 'nibble inspect --verify'"
                    : "the model overflows with these prompts: calibrate with others")
        case .wrongShape(let layer, let reason): "\(layer): \(reason)"
        case .inputsNeeded(let layer, let purpose):
            "\(layer): \(purpose) needs inputs of the layer; calibrate, or choose a recipe without it"
        case .noLAPACK(let found):
            "no usable LAPACK (\(found)); install the reference library: apt-get install liblapack3"
        case .notFactorized(let layer, let reason): "\(layer): \(reason)"
        }
    }
}

extension LayerError {
    /// Runs a factorization, which does not know whose it is, and names the layer in its error.
    static func naming<Value>(
        _ layer: String, _ body: () throws(LayerError) -> Value
    ) throws(LayerError) -> Value {
        do {
            return try body()
        } catch .notFactorized(_, let reason) {
            throw .notFactorized(layer: layer, reason: reason)
        }
    }
}
