public import NibbleCheckpoints
public import NibbleTensors

/// y = x Wᵀ + bias with weights as the checkpoint stores them: mapped, of any float type.
public struct Linear: LinearLayer {
    /// `[out, in]`.
    public let weight: Tensor
    /// `[out]` f32.
    public let bias: Tensor?

    /// Reads `weight` and, where there is one, `bias`.
    ///
    /// - Parameters:
    ///   - weights: a reader of this layer's tensors.
    ///   - input: the number of input channels.
    ///   - output: the number of output channels.
    ///   - bias: whether the layer has one.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    public init(_ weights: WeightReader, input: Int, output: Int, bias: Bool = true) throws(CheckpointError) {
        weight = try weights.tensor("weight", [output, input])
        self.bias = bias ? try weights.vector("bias", output) : nil
    }

    public func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        compute.product(x, weight, bias: bias, into: y, activation: activation)
    }
}
