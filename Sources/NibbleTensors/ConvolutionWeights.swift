internal import CNibbleKernels
internal import CNibbleSystem
internal import Synchronization

/// Kernel, stride and zero padding of a square convolution, the same in both directions.
public struct ConvolutionGeometry: Sendable, Hashable {
    /// Height and width of the kernel.
    public let kernel: Int
    /// Pixels between successive outputs.
    public let stride: Int
    /// Zeros above and left of the picture.
    public let paddingBefore: Int
    /// Zeros below and right of the picture.
    public let paddingAfter: Int

    /// - Parameters:
    ///   - kernel: height and width, at least 1.
    ///   - stride: at least 1.
    ///   - paddingBefore: zeros above and left, fewer than `kernel`.
    ///   - paddingAfter: zeros below and right; nil: as many as before.
    public init(kernel: Int, stride: Int = 1, paddingBefore: Int = 0, paddingAfter: Int? = nil) {
        precondition(kernel >= 1 && stride >= 1)
        // Else some outputs would see nothing but zeros.
        precondition((0..<kernel).contains(paddingBefore) && (0..<kernel).contains(paddingAfter ?? paddingBefore))
        self.kernel = kernel
        self.stride = stride
        self.paddingBefore = paddingBefore
        self.paddingAfter = paddingAfter ?? paddingBefore
    }

    /// The number of outputs along an axis of that extent.
    public func outputs(_ extent: Int) -> Int {
        let padded = extent + paddingBefore + paddingAfter
        return padded < kernel ? 0 : (padded - kernel) / stride + 1
    }

    /// The rows that outputs are made of; those outside the picture are zeros.
    func inputs(_ outputs: Range<Int>) -> Range<Int> {
        let first = outputs.lowerBound * stride - paddingBefore
        return first..<first + (outputs.count - 1) * stride + kernel
    }
}

/// The weights of a convolution, packed for oneDNN when they are first used, and what oneDNN compiled for the sizes of
/// pictures seen so far.
public final class ConvolutionWeights: Sendable {
    /// Kernel, stride and padding.
    public let geometry: ConvolutionGeometry
    /// The number of input channels.
    public let input: Int
    /// The number of output channels.
    public let output: Int

    let bias: Tensor
    private let weight: Tensor
    private let cache = Mutex(Cache())

    private struct Cache {
        var packed: [(by: CompiledConvolution, operand: DType, weights: Tensor)] = []
        var ready: [Key: ReadyConvolution] = [:]
    }

    /// What a compiled convolution of these weights depends on.
    struct Key: Hashable {
        let rows, width: Int
        let operand, result: DType
    }

    /// - Parameters:
    ///   - weight: `[out, in, kernel, kernel]` of any float type, contiguous.
    ///   - bias: `[out]` f32.
    ///   - geometry: kernel, stride and padding.
    public init(_ weight: Tensor, bias: Tensor, geometry: ConvolutionGeometry) {
        precondition(weight.shape.rank == 4 && weight.isContiguous && bias.elementCount == weight.shape[0])
        precondition(weight.shape[2] == geometry.kernel && weight.shape[3] == geometry.kernel)
        self.weight = weight
        self.bias = bias
        self.geometry = geometry
        output = weight.shape[0]
        input = weight.shape[1]
    }

    /// A convolution of `rows` rows without padding above and below. Different sizes share the packed weights where
    /// oneDNN wants them packed alike.
    func ready(_ key: Key) -> ReadyConvolution {
        cache.withLock { cache in
            if let ready = cache.ready[key] { return ready }
            let compiled = CompiledConvolution(key, self)
            let known = cache.packed.first { packed in
                packed.operand == key.operand && nibble_convolution_packs_alike(packed.by.handle, compiled.handle)
            }
            let packed = known?.weights ?? pack(for: compiled, key.operand)
            if known == nil { cache.packed.append((compiled, key.operand, packed)) }
            let ready = ReadyConvolution(compiled: compiled, weights: packed, bias: bias)
            cache.ready[key] = ready
            return ready
        }
    }

    private func pack(for compiled: CompiledConvolution, _ operand: DType) -> Tensor {
        let converted = Tensor(zeros: weight.shape, operand)
        kernels.convert(
            weight.address, weight.dtype.kernelFloat, converted.mutableAddress, operand.kernelFloat,
            weight.elementCount)
        let packed = Tensor(zeros: [nibble_convolution_packed_bytes(compiled.handle)], .uint8)
        let status = nibble_convolution_pack(compiled.handle, converted.address, packed.mutableAddress)
        precondition(status == 0, "oneDNN does not pack the weights \(weight.shape): status \(status)")
        return packed
    }
}

/// A convolution compiled by oneDNN for one size.
final class CompiledConvolution: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer
    let scratchBytes: Int

    init(_ key: ConvolutionWeights.Key, _ weights: ConvolutionWeights) {
        let geometry = weights.geometry
        var shape = nibble_convolution_shape(
            height: key.rows, width: key.width, in: weights.input, out: weights.output, kernel: geometry.kernel,
            stride: geometry.stride, pad_top: 0, pad_left: geometry.paddingBefore, pad_bottom: 0,
            pad_right: geometry.paddingAfter, input: key.operand.dnnType, output: key.result.dnnType)
        var handle: OpaquePointer?
        let status = nibble_convolution_create(&shape, &handle)
        guard let handle, status == 0 else { fatalError("oneDNN refuses the convolution \(shape): status \(status)") }
        self.handle = handle
        scratchBytes = nibble_convolution_scratch_bytes(handle)
    }

    deinit { nibble_convolution_destroy(handle) }
}

/// A compiled convolution with its weights.
struct ReadyConvolution: Sendable {
    let compiled: CompiledConvolution
    let weights: Tensor
    let bias: Tensor

    func run(_ x: UnsafeRawPointer, into y: UnsafeMutableRawPointer, scratch: UnsafeMutableRawPointer) {
        let status = nibble_convolution_run(
            compiled.handle, x, weights.address, bias.readable(Float.self), y, scratch)
        precondition(status == 0, "oneDNN does not run a convolution that it compiled: status \(status)")
    }
}
