public import NibbleTensors

/// The mapped tensors of one part of a network, to be fetched ahead of their use and let go after it, so that a model
/// larger than memory runs.
public struct MappedWeights: Sendable {
    private let ranges: [(storage: Storage, bytes: Range<Int>)]

    /// - Parameter tensors: the part's tensors; those that are not mapped from a file are left alone.
    public init(_ tensors: [Tensor]) {
        ranges = tensors.filter { $0.storage.path != nil }.map { tensor in
            let start = tensor.byteOffset
            return (tensor.storage, start..<start + tensor.elementCount * tensor.dtype.byteSize)
        }
    }

    /// Bytes in all.
    public var byteCount: Int { ranges.reduce(0) { $0 + $1.bytes.count } }

    /// Tells the system that the weights are read soon.
    public func fetch() {
        for range in ranges { range.storage.advise(.willNeed, range.bytes) }
    }

    /// Lets the weights leave this process's memory; they come back from the file when they are read again.
    public func release() {
        for range in ranges { range.storage.advise(.release, range.bytes) }
    }
}
