public import NibbleTensors

/// Weights of random numbers, of whatever shape a network asks for: to learn what a machine does with a model before
/// one has it. Matrices and convolutions are normal with variance 1/inputs, so that what comes out is as large as what
/// goes in; gains are 1, biases small.
public struct RandomWeights: TensorSource {
    private let dtype: DType
    private let seed: UInt64
    private let pool: ThreadPool?

    /// Standard deviation of biases: seen, but small beside outputs of variance 1.
    private static let biasDeviation: Float = 1 / 64

    /// - Parameters:
    ///   - dtype: the type of all tensors, F32 or BF16.
    ///   - seed: other numbers for another seed.
    ///   - pool: the threads that make them; nil: the one that asks.
    public init(dtype: DType, seed: UInt64 = 0, on pool: ThreadPool? = nil) {
        precondition(dtype == .float32 || dtype == .bfloat16)
        self.dtype = dtype
        self.seed = seed
        self.pool = pool
    }

    /// What error messages name in the place of a file.
    public let location = "random weights"

    /// None: every name that is asked for is there.
    public let tensorNames: Set<String> = []

    /// Always fails: without a shape there is nothing to make.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        throw .missingTensor(path: location, name: name)
    }

    /// New numbers; the same for the same seed, name and shape, whatever the number of threads.
    public func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor {
        let tensor = Tensor(zeros: shape, dtype)
        let numbers = RandomNumbers(name, seed: seed)
        if shape.rank > 1 {
            numbers.fill(tensor, deviation: 1 / Float(max(tensor.width, 1)).squareRoot(), on: pool)
        } else {
            let isGain = name.hasSuffix("weight")
            numbers.fill(tensor, mean: isGain ? 1 : 0, deviation: isGain ? 0 : Self.biasDeviation, on: pool)
        }
        return tensor
    }
}
