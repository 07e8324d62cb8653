internal import NibbleCheckpoints
internal import NibbleTensors

/// Queries, keys and values of one stream: projections, and the norms of each head of queries and keys.
struct QKVProjection: Sendable {
    /// The epsilon of FLUX's per-head RMS norm.
    private static let epsilon: Float = 1e-6

    let query, key, value: Linear
    let queryNorm, keyNorm: Tensor

    /// - Parameters:
    ///   - weights: a reader of the attention's tensors.
    ///   - hidden: width of a token.
    ///   - headDim: width of a head.
    ///   - names: those of the three projections.
    ///   - norms: those of the norms of queries and keys.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    init(
        _ weights: WeightReader, hidden: Int, headDim: Int, names: (String, String, String), norms: (String, String)
    ) throws(CheckpointError) {
        query = try Linear(weights[names.0], input: hidden, output: hidden)
        key = try Linear(weights[names.1], input: hidden, output: hidden)
        value = try Linear(weights[names.2], input: hidden, output: hidden)
        queryNorm = try weights[norms.0].vector("weight", headDim)
        keyNorm = try weights[norms.1].vector("weight", headDim)
    }

    /// Projects x `[tokens, hidden]` into the rows of q, k and v that are this stream's, normalized and rotated.
    func callAsFunction(_ x: Tensor, q: Tensor, k: Tensor, v: Tensor, rotary: RotaryAngles, on compute: Compute) {
        query(x, into: q, on: compute)
        key(x, into: k, on: compute)
        value(x, into: v, on: compute)
        compute.rmsNormRotary(q, gain: queryNorm, epsilon: Self.epsilon, rotary: rotary)
        compute.rmsNormRotary(k, gain: keyNorm, epsilon: Self.epsilon, rotary: rotary)
    }
}
