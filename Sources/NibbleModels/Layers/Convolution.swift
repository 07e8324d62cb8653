public import NibbleCheckpoints
public import NibbleTensors

/// A convolution with the weights of a checkpoint.
public struct Convolution: Sendable {
    /// The weights; packed when they are first used, as only then precision and size are known.
    public let weights: ConvolutionWeights

    /// Reads `weight` `[out, in, kernel, kernel]` and `bias` `[out]`.
    ///
    /// - Parameters:
    ///   - weights: a reader of this layer's tensors.
    ///   - input: the number of input channels.
    ///   - output: the number of output channels.
    ///   - geometry: kernel, stride and padding.
    /// - Throws: what is wrong with a tensor.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    public init(
        _ weights: WeightReader, input: Int, output: Int, geometry: ConvolutionGeometry
    ) throws(CheckpointError) {
        self.weights = ConvolutionWeights(
            try weights.tensor("weight", [output, input, geometry.kernel, geometry.kernel]),
            bias: try weights.vector("bias", output), geometry: geometry)
    }
}

extension ConvolutionGeometry {
    /// One pixel.
    static let pointwise = ConvolutionGeometry(kernel: 1)
    /// 3 × 3, output as large as the input.
    static let same = ConvolutionGeometry(kernel: 3, paddingBefore: 1)
    /// 3 × 3 to half the size; diffusers pads below and on the right only.
    static let halving = ConvolutionGeometry(kernel: 3, stride: 2, paddingBefore: 0, paddingAfter: 1)
}
