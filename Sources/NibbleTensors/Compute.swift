internal import CNibbleSystem
internal import Synchronization

/// In what numbers a network computes.
public enum Precision: String, Sendable, CaseIterable {
    /// 32-bit floats throughout: the reference for everything else.
    case f32
    /// Operands of products and of attention in bfloat16; sums, norms, softmax and the residual stream in 32 bits.
    case bf16

    /// The type of activations that go into products.
    public var activation: DType { self == .f32 ? .float32 : .bfloat16 }
}

/// In what numbers the products of 4-bit layers are summed.
public enum Accumulation: String, Sendable, CaseIterable {
    /// 32-bit floats.
    case f32
    /// bfloat16, as the sums of Nunchaku's GPU kernels are: to compare with that engine, far slower than `f32`. A group's
    /// sum, its scale, the sum over groups, bias, low-rank sums and GELU are rounded one after the other; what lies
    /// between the layers is not.
    case nunchaku
}

/// What a network computes with: threads, memory for activations, compiled products. Operations on tensors are its
/// methods (`Compute+….swift`).
///
/// Results depend on the operands and the instruction set alone, never on the number of threads: work is split over
/// outputs, into parts whose size follows from the operands' shapes.
///
/// Not for use from several threads at once.
public final class Compute {
    /// The threads.
    public let pool: ThreadPool
    /// Memory for activations.
    public let workspace = Workspace()
    /// The numbers that networks compute in.
    public let precision: Precision

    /// What the inputs of 4-bit layers are quantized to.
    public let activationBits: ActivationBits

    /// What the products of 4-bit layers are summed in.
    public let accumulation: Accumulation

    /// What the attention of transformers multiplies; text encoders and autoencoder have that of `precision`.
    public let attentionPrecision: AttentionPrecision

    /// Is shown activations as they arise, under names such as `double.0.img`: for comparison with another engine, and
    /// for calibration. The tensor is only lent: its memory is used again afterwards.
    public var observer: ((_ name: String, _ activation: Tensor) -> Void)?

    var products: [ProductKey: CompiledProduct] = [:]

    /// - Parameters:
    ///   - precision: the numbers that networks compute in.
    ///   - activationBits: what the inputs of 4-bit layers are quantized to.
    ///   - accumulation: what the products of 4-bit layers are summed in; Nunchaku's way needs 4-bit inputs.
    ///   - attentionPrecision: what the attention of transformers multiplies; bytes only beside bf16, and where
    ///     `hasInt8Attention`.
    ///   - pool: the threads; nil: one for each core.
    public init(
        precision: Precision, activationBits: ActivationBits = .int4, accumulation: Accumulation = .f32,
        attentionPrecision: AttentionPrecision = .bf16, pool: ThreadPool? = nil
    ) {
        precondition(accumulation == .f32 || activationBits == .int4, "Nunchaku's kernels take 4-bit inputs")
        precondition(attentionPrecision == .bf16 || (precision == .bf16 && Self.hasInt8Attention))
        self.attentionPrecision = attentionPrecision
        self.activationBits = activationBits
        self.accumulation = accumulation
        self.precision = precision
        self.pool = pool ?? ThreadPool()
    }

    /// Shows an activation to the observer, if there is one.
    public func observe(_ name: @autoclosure () -> String, _ activation: Tensor) {
        observer?(name(), activation)
    }

    /// Splits `count` rows among the threads in blocks of a fixed size; profiles know the operation by its name.
    func forRows(
        _ operation: StaticString, _ count: Int, block: Int, multiplyAdds: Int = 0,
        _ body: @escaping @Sendable (_ rows: Range<Int>) -> Void
    ) {
        run(operation, (count + block - 1) / block, multiplyAdds: multiplyAdds) { part, _ in
            body(part * block..<min((part + 1) * block, count))
        }
    }
}

/// The version of oneDNN in use, as "2.6.3".
public var oneDNNVersion: String {
    let version = Int(nibble_dnn_version())
    return "\(version / 10_000).\(version / 100 % 100).\(version % 100)"
}
