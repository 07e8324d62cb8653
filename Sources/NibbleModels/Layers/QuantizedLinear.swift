public import NibbleTensors

/// A linear layer of 4-bit weights with a low-rank branch (SVDQuant, arXiv 2411.05007, §4). Its input is quantized as it
/// comes, to what `Compute.activationBits` says.
public struct QuantizedLinear: LinearLayer {
    /// In the kernels' order.
    public let weights: QuantizedWeights

    /// A layer of these weights.
    public init(_ weights: QuantizedWeights) {
        self.weights = weights
    }

    /// Applies the layer; see `LinearLayer`.
    public func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        compute.quantizedProduct(x, weights, into: y, bits: compute.activationBits, activation: activation)
    }
}

/// A linear layer of 4-bit weights for an input of one row that is not quantized (W4A16): the modulations.
public struct QuantizedRowLinear: LinearLayer {
    /// In the kernels' order.
    public let weights: QuantizedRowWeights

    /// A layer of these weights.
    public init(_ weights: QuantizedRowWeights) {
        self.weights = weights
    }

    /// Applies the layer, without an activation; see `LinearLayer`.
    public func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        precondition(activation == .identity)
        compute.quantizedRowProduct(x, weights, into: y)
    }
}
