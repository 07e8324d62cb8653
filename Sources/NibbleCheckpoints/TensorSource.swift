public import NibbleTensors

/// Named tensors: a file, a folder of shards, or a renaming of either. A network reads its weights from one and never
/// opens a file itself.
public protocol TensorSource: Sendable {
    /// The file or folder, for error messages.
    var location: String { get }

    /// All names.
    var tensorNames: Set<String> { get }

    /// A tensor by its name, as a view of the mapped file where that is possible.
    ///
    /// - Parameter name: one of `tensorNames`.
    /// - Returns: its elements, unchanged and contiguous.
    /// - Throws: `CheckpointError.missingTensor`, or what is wrong with the file.
    func tensor(_ name: String) throws(CheckpointError) -> Tensor

    /// A tensor by its name, for a reader that knows which shape it ought to have. A source that makes its tensors up
    /// (zeros, random numbers) takes the shape from here; one that holds them pays no attention to it, and the reader
    /// compares.
    ///
    /// - Parameters:
    ///   - name: one of `tensorNames`.
    ///   - shape: what the network's configuration asks for.
    /// - Returns: its elements, contiguous, not necessarily of that shape.
    /// - Throws: as `tensor(_:)`.
    func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor
}

extension TensorSource {
    /// The tensor of that name, whatever its shape.
    public func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor { try tensor(name) }
}
