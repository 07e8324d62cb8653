internal import NibbleCheckpoints
internal import NibbleTensors

/// y = (x - mean) / √(variance + ε) · weight + bias over the channels (Ba et al., arXiv 1607.06450).
struct LayerNorm: Sendable {
    private let gain, offset: Tensor
    private let epsilon: Float

    /// Reads `weight` and `bias`.
    init(_ weights: WeightReader, width: Int, epsilon: Float) throws(CheckpointError) {
        gain = try weights.vector("weight", width)
        offset = try weights.vector("bias", width)
        self.epsilon = epsilon
    }

    /// Normalizes `x`, `[rows, width]` f32, into `y` of the same shape, f32 or bf16.
    func callAsFunction(_ x: Tensor, into y: Tensor, on compute: Compute) {
        compute.layerNorm(x, gain: gain, offset: offset, epsilon: epsilon, into: y)
    }
}
