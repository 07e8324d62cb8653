public import NibbleTensors

/// A linear layer of 4-bit weights with or without a low-rank branch (SVDQuant, arXiv 2411.05007, §4). Its input is
/// quantized as it comes.
public struct QuantizedLinear: LinearLayer {
    /// In the kernels' order.
    public let weights: QuantizedWeights
    /// What its input is quantized to; nil: what `Compute.activationBits` says.
    public let bits: ActivationBits?

    /// A layer of these weights.
    public init(_ weights: QuantizedWeights, bits: ActivationBits? = nil) {
        self.weights = weights
        self.bits = bits
    }

    /// Applies the layer; see `LinearLayer`.
    public func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        compute.quantizedProduct(
            x, weights, into: y, bits: bits ?? compute.activationBits, activation: activation)
    }

    /// See `LinearLayer`: as the product's outputs are made, unless somebody wants to see the branch.
    public func add(
        _ x: Tensor, to stream: Tensor, gate: Tensor?, as branch: DType, _ name: @autoclosure () -> String,
        on compute: Compute
    ) {
        guard compute.observer == nil else {
            return addInTwoPasses(x, to: stream, gate: gate, as: branch, name(), on: compute)
        }
        compute.quantizedProduct(x, weights, addedTo: stream, gate: gate, bits: bits ?? compute.activationBits)
    }

    /// y = activation(first half) · second half of the layer's outputs.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16.
    ///   - y: `[rows, out / 2]`, f32 or bf16.
    ///   - activation: identity, or GELU with tanh.
    ///   - compute: what to compute with.
    func gated(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        compute.gatedQuantizedProduct(
            x, weights, into: y, bits: bits ?? compute.activationBits, activation: activation)
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
