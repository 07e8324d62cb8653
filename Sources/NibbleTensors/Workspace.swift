/// Memory for activations: taken in the order of calls, given back all at once at the end of a scope, kept for the next
/// scope. A pass that repeats the requests of the one before it therefore allocates nothing.
///
/// Elements of a new tensor are undefined. Not for use from several threads at once.
public final class Workspace {
    /// The smallest piece asked of the system: large enough that a step takes few, small enough for a little model.
    private static let minimumChunk = 32 << 20

    private var chunks: [Storage] = []
    private var chunk = 0
    private var offset = 0

    /// Bytes taken from the system so far; a step after the first must not change it.
    public private(set) var reservedBytes = 0

    /// An empty workspace.
    public init() {}

    /// An uninitialized tensor that lives until the end of the innermost scope.
    ///
    /// - Parameters:
    ///   - shape: the extents.
    ///   - dtype: the type of the elements.
    /// - Returns: a contiguous tensor, aligned to 64 bytes.
    public func tensor(_ shape: Shape, _ dtype: DType) -> Tensor {
        let size = (shape.elementCount * dtype.byteSize + 63) & ~63
        while chunk < chunks.count, offset + size > chunks[chunk].byteCount {
            chunk += 1
            offset = 0
        }
        if chunk == chunks.count {
            chunks.append(Storage(byteCount: max(size, Self.minimumChunk)))
            reservedBytes += chunks[chunk].byteCount
        }
        defer { offset += size }
        return Tensor(storage: chunks[chunk], byteOffset: offset, shape: shape, dtype: dtype)
    }

    /// Runs a body and gives back what it took.
    public func scope<Result>(_ body: () throws -> Result) rethrows -> Result {
        let mark = (chunk, offset)
        defer { (chunk, offset) = mark }
        return try body()
    }

    /// Returns all memory to the system. No scope may be open.
    public func release() {
        precondition(chunk == 0 && offset == 0, "a scope is open")
        chunks = []
        reservedBytes = 0
    }
}
