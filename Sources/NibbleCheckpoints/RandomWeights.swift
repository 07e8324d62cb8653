internal import Foundation
public import NibbleTensors

/// Weights of random numbers, of whatever shape a network asks for: to learn what a machine does with a model before
/// one has it. Matrices are uniform within ±1/√inputs, as torch starts a linear layer; gains are 1.
public struct RandomWeights: TensorSource {
    private let dtype: DType

    /// - Parameter dtype: the type of all tensors, F32 or BF16.
    public init(dtype: DType) {
        precondition(dtype == .float32 || dtype == .bfloat16)
        self.dtype = dtype
    }

    /// What error messages name in the place of a file.
    public let location = "random weights"

    /// None: every name that is asked for is there.
    public let tensorNames: Set<String> = []

    /// Always fails: without a shape there is nothing to make.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        throw .missingTensor(path: location, name: name)
    }

    /// New numbers; the same for the same name and shape.
    public func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor {
        let tensor = Tensor(zeros: shape, dtype)
        let isGain = shape.rank == 1 && name.hasSuffix("weight")
        let scale = isGain ? 0 : 1 / Float(max(tensor.width, 1)).squareRoot()
        fill(tensor, offset: isGain ? 1 : 0, scale: scale, seed: Self.seed(name))
        return tensor
    }

    /// What the numbers of a name begin with.
    static func seed(_ name: String) -> UInt64 {
        var hash = FowlerNollVo()
        hash.add(name.utf8)
        return hash.value
    }

    /// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    @inline(__always) static func bits(seed: UInt64, index: Int) -> UInt64 {
        var bits = seed &+ UInt64(truncatingIfNeeded: index) &* 0x9e37_79b9_7f4a_7c15
        bits = (bits ^ (bits >> 30)) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
        return bits
    }

    /// offset + scale · u with u uniform in -1 ..< 1.
    private func fill(_ tensor: Tensor, offset: Float, scale: Float, seed: UInt64) {
        func value(_ index: Int) -> Float {
            let bits = Self.bits(seed: seed, index: index)
            return offset + scale * Float(Int32(truncatingIfNeeded: bits >> 32)) * 0x1p-31
        }
        if dtype == .float32 {
            let elements = tensor.mutableAddress.assumingMemoryBound(to: Float.self)
            for index in 0..<tensor.elementCount { elements[index] = value(index) }
        } else {
            let elements = tensor.mutableAddress.assumingMemoryBound(to: BFloat16.self)
            for index in 0..<tensor.elementCount { elements[index] = BFloat16(value(index)) }
        }
    }
}
