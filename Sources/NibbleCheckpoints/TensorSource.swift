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
}
