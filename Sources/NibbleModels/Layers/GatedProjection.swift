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
    ///   - y: `[rows, width]`, f32 or bf16.
    ///   - activation: the gate's.
    ///   - compute: what to compute with.
    func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        switch self {
        case .joined(let layer): layer.gated(x, into: y, activation: activation, on: compute)
        case .separate(let gate, let up):
            compute.workspace.scope {
                let linear = compute.workspace.tensor(y.shape, y.dtype)
                gate(x, into: y, activation: activation, on: compute)
                up(x, into: linear, on: compute)
                compute.multiply(y, by: linear)
            }
        }
    }
}
