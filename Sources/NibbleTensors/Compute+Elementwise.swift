internal import CNibbleKernels

extension Compute {
    /// Rows that one thread works at once in operations that read each row once: small enough to share out the rows of
    /// a short text, large enough that taking a part costs nothing beside working it.
    static let rowBlock = 16

    /// Converts each element. `y` has `x`'s shape and is f32 or bf16.
    public func convert(_ x: Tensor, into y: Tensor) {
        precondition(x.shape == y.shape)
        let width = x.width
        forRows("convert", x.rows, block: Self.rowBlock) { rows in
            for row in rows {
                kernels.convert(
                    x.address + row * x.rowStride * x.dtype.byteSize, x.dtype.kernelFloat,
                    y.mutableAddress + row * y.rowStride * y.dtype.byteSize, y.dtype.kernelFloat, width)
            }
        }
    }

    /// stream += gate · branch, each row.
    ///
    /// - Parameters:
    ///   - branch: `[rows, n]` f32 or bf16.
    ///   - stream: `[rows, n]` f32, updated.
    ///   - gate: `[n]` f32; nil: 1.
    public func add(_ branch: Tensor, to stream: Tensor, gate: Tensor? = nil) {
        precondition(stream.shape == branch.shape && stream.dtype == .float32)
        forRows("gated add", stream.rows, block: Self.rowBlock) { rows in
            let stream = stream.rows(rows)
            let branch = branch.rows(rows)
            kernels.gated_add(
                stream.mutable(Float.self), stream.rowStride, branch.address, branch.dtype.kernelFloat,
                branch.rowStride, rows.count, stream.width, gate?.readable(Float.self))
        }
    }

    /// x *= y, element by element, of matrices of one type.
    public func multiply(_ x: Tensor, by y: Tensor) {
        precondition(x.shape == y.shape && x.dtype == y.dtype)
        forRows("multiply", x.rows, block: Self.rowBlock) { rows in
            let x = x.rows(rows)
            let y = y.rows(rows)
            kernels.multiply(
                x.mutableAddress, x.rowStride, y.address, y.rowStride, x.dtype.kernelFloat, rows.count, x.width)
        }
    }

    /// x += constant, element by element of a contiguous f32 tensor of a few thousand elements.
    public func add(constant: Float, to x: Tensor) {
        precondition(x.dtype == .float32 && x.isContiguous)
        let elements = x.mutable(Float.self)
        measured("add constant") {
            for index in 0..<x.elementCount { elements[index] += constant }
        }
    }

    /// y = x / (1 + exp(-x)), element by element of contiguous tensors; x is f32.
    public func silu(_ x: Tensor, into y: Tensor) {
        precondition(x.shape == y.shape && x.dtype == .float32 && x.isContiguous && y.isContiguous)
        measured("SiLU") {
            kernels.silu(x.readable(Float.self), y.mutableAddress, y.dtype.kernelFloat, x.elementCount)
        }
    }

    /// Whether all elements are finite numbers.
    public func isFinite(_ x: Tensor) -> Bool { x.floats().allSatisfy(\.isFinite) }
}
