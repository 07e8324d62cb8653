/// An array of numbers in row-major order that looks into a `Storage`. The last axes are contiguous; successive indices
/// of the first axis may lie further apart (`rowStride`), so that a block of columns of a matrix is a tensor too.
///
/// A tensor is a view: copying it copies no element.
public struct Tensor: Sendable {
    /// The bytes that it looks into.
    public let storage: Storage
    /// Where its first element lies.
    public let byteOffset: Int
    /// The extents, outermost first.
    public let shape: Shape
    /// The type of its elements.
    public let dtype: DType
    /// Elements between successive indices of the first axis; at least the product of the other extents.
    public let rowStride: Int

    /// A view of a storage.
    ///
    /// - Parameters:
    ///   - storage: the bytes.
    ///   - byteOffset: where the first element lies.
    ///   - shape: the extents.
    ///   - dtype: the type of the elements.
    ///   - rowStride: elements between successive indices of the first axis; nil: none skipped.
    public init(storage: Storage, byteOffset: Int = 0, shape: Shape, dtype: DType, rowStride: Int? = nil) {
        let width = shape.width
        self.storage = storage
        self.byteOffset = byteOffset
        self.shape = shape
        self.dtype = dtype
        self.rowStride = rowStride ?? width
        let rows = shape.rank == 0 ? 1 : shape[0]
        let extent = rows == 0 ? 0 : ((rows - 1) * self.rowStride + width) * dtype.byteSize
        precondition(self.rowStride >= width && byteOffset >= 0 && byteOffset + extent <= storage.byteCount)
    }

    /// New zeros.
    public init(zeros shape: Shape, _ dtype: DType) {
        self.init(storage: Storage(byteCount: shape.elementCount * dtype.byteSize), shape: shape, dtype: dtype)
    }

    /// A copy of an array of 32-bit floats.
    public init(_ values: [Float], shape: Shape) {
        precondition(values.count == shape.elementCount)
        self.init(zeros: shape, .float32)
        mutable(Float.self).update(from: values, count: values.count)
    }

    /// The number of elements.
    public var elementCount: Int { shape.elementCount }

    /// Elements of one index of the first axis.
    public var width: Int { shape.width }

    /// Extent of the first axis.
    public var rows: Int { shape.rank == 0 ? 1 : shape[0] }

    /// Whether no elements are skipped between rows.
    public var isContiguous: Bool { rowStride == width || rows <= 1 }

    /// The address of the first element, for reading.
    public var address: UnsafeRawPointer { UnsafeRawPointer(storage.base + byteOffset) }

    /// The address of the first element, for writing. Only for a tensor whose storage is owned.
    public var mutableAddress: UnsafeMutableRawPointer {
        precondition(storage.path == nil, "a mapped file is only read")
        return storage.base + byteOffset
    }

    /// The bytes of all elements of a contiguous tensor.
    public var bytes: UnsafeRawBufferPointer {
        precondition(isContiguous)
        return UnsafeRawBufferPointer(start: address, count: elementCount * dtype.byteSize)
    }

    /// Some rows, as a view.
    public func rows(_ range: Range<Int>) -> Tensor {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows)
        return Tensor(
            storage: storage, byteOffset: byteOffset + range.lowerBound * rowStride * dtype.byteSize,
            shape: shape.withRows(range.count), dtype: dtype, rowStride: rowStride)
    }

    /// Some columns of a matrix, as a view.
    public func columns(_ range: Range<Int>) -> Tensor {
        precondition(shape.rank == 2 && range.lowerBound >= 0 && range.upperBound <= shape[1])
        return Tensor(
            storage: storage, byteOffset: byteOffset + range.lowerBound * dtype.byteSize,
            shape: Shape(shape[0], by: range.count), dtype: dtype, rowStride: rowStride)
    }

    /// The same elements under another shape. The tensor must be contiguous.
    public func reshaped(_ shape: Shape) -> Tensor {
        precondition(isContiguous && shape.elementCount == elementCount)
        return Tensor(storage: storage, byteOffset: byteOffset, shape: shape, dtype: dtype)
    }

    /// The elements of a contiguous tensor as a Swift array, converted to 32-bit floats.
    public func floats() -> [Float] {
        [Float](unsafeUninitializedCapacity: elementCount) { buffer, count in
            if let base = buffer.baseAddress { widen(into: base) }
            count = elementCount
        }
    }

    /// A copy in 32-bit floats.
    public var widened: Tensor {
        let copy = Tensor(zeros: shape, .float32)
        widen(into: copy.mutable(Float.self))
        return copy
    }

    /// Writes all elements one after the other. Those of a vector lie together: as "rows" of one element they would cost
    /// a call each.
    private func widen(into target: UnsafeMutablePointer<Float>) {
        guard elementCount > 0 else { return }
        let pieces = isContiguous ? 1 : rows
        let count = elementCount / pieces
        for piece in 0..<pieces {
            let source = address + piece * rowStride * dtype.byteSize
            widenElements(source, dtype, into: target + piece * count, count: count)
        }
    }

    func mutable<Element>(_: Element.Type) -> UnsafeMutablePointer<Element> {
        mutableAddress.assumingMemoryBound(to: Element.self)
    }

    func readable<Element>(_: Element.Type) -> UnsafePointer<Element> {
        address.assumingMemoryBound(to: Element.self)
    }
}
