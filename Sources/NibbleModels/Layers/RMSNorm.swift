internal import NibbleCheckpoints
internal import NibbleTensors

/// y = x / √(mean(x²) + ε) · weight over the channels (Zhang and Sennrich, arXiv 1910.07467).
struct RMSNorm: Sendable {
    private let gain: Tensor
    private let epsilon: Float

    /// Reads `weight`.
    init(_ weights: WeightReader, width: Int, epsilon: Float) throws(CheckpointError) {
        gain = try weights.vector("weight", width)
        self.epsilon = epsilon
    }

    /// Normalizes `x`, `[rows, width]` f32, into `y` of the same shape, f32 or bf16.
    func callAsFunction(_ x: Tensor, into y: Tensor, on compute: Compute) {
        compute.rmsNorm(x, gain: gain, epsilon: epsilon, into: y)
    }
}
