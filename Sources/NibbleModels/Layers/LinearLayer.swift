public import NibbleTensors

/// y = x Wᵀ + bias, whatever the weights are stored as. Which kind a layer is, the checkpoint decides when it is opened;
/// the networks do not know.
public protocol LinearLayer: Sendable {
    /// Applies the layer.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16.
    ///   - y: `[rows, out]`, f32 or bf16; may be a block of columns of a wider matrix.
    ///   - activation: what is done to each output at the end.
    ///   - compute: what to compute with.
    func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute)
}

extension LinearLayer {
    /// Applies the layer and nothing after it.
    public func callAsFunction(_ x: Tensor, into y: Tensor, on compute: Compute) {
        self(x, into: y, activation: .identity, on: compute)
    }
}
