internal import NibbleTensors

/// The first half of a gated feed-forward layer, activation(x W₀ᵀ) · (x W₁ᵀ): two layers of one input, or one that has
/// the outputs of both.
enum GatedProjection: Sendable {
    /// The gate's outputs first.
    case joined(QuantizedLinear)
    /// A layer each.
    case separate(gate: any LinearLayer, up: any LinearLayer)

    /// Applies both.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16.
    ///   - both: `[rows, 2 · width]`, f32 or bf16; the result is its first half.
    ///   - activation: the gate's.
    ///   - compute: what to compute with.
    /// - Returns: the first half, `[rows, width]`.
    func callAsFunction(_ x: Tensor, into both: Tensor, activation: Activation, on compute: Compute) -> Tensor {
        let width = both.width / 2
        let (gated, linear) = (both.columns(0..<width), both.columns(width..<2 * width))
        switch self {
        case .joined(let layer): layer(x, into: both, activation: activation, of: width, on: compute)
        case .separate(let gate, let up):
            gate(x, into: gated, activation: activation, on: compute)
            up(x, into: linear, on: compute)
        }
        compute.multiply(gated, by: linear)
        return gated
    }
}
