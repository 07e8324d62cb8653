public import NibbleTensors

/// A safetensors file, mapped: opening it reads the header, and a tensor's bytes are read when they are used.
///
/// The file must not be cut short by another program while it is open; the system then ends the process (SIGBUS).
public struct SafetensorsFile: TensorSource {
    /// The file.
    public let location: String
    /// All names.
    public let tensorNames: Set<String>

    /// The tensors in the order of their data.
    public let entries: [TensorEntry]
    /// The strings of `__metadata__`; empty where there is none.
    public let metadata: [String: String]
    /// The size of the file.
    public var byteCount: Int { storage.byteCount }

    private let storage: Storage
    private let positions: [String: Int]

    /// Maps a file and checks its header.
    ///
    /// - Parameter path: the file.
    /// - Throws: `CheckpointError.inaccessible` when it cannot be opened, `.malformed` or `.malformedTensor` when the
    ///   header is not what the format asks for.
    public init(_ path: String) throws(CheckpointError) {
        storage = try Storage(checkpoint: path)
        let header = try SafetensorsHeader(
            UnsafeRawBufferPointer(start: storage.base, count: storage.byteCount), path: path)
        location = path
        entries = header.entries
        metadata = header.metadata
        positions = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.name, $0) })
        tensorNames = Set(positions.keys)
    }

    /// What the header says of a tensor; nil if there is none of that name.
    public func entry(_ name: String) -> TensorEntry? { positions[name].map { entries[$0] } }

    /// A view of the mapped file. Only a tensor that does not lie at a multiple of its element's size is a copy, made
    /// anew at each call: the format aligns nothing, and processors may not read such elements.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        guard let entry = entry(name) else { throw .missingTensor(path: location, name: name) }
        let start = entry.byteRange.lowerBound
        if start.isMultiple(of: entry.dtype.byteSize) {
            return Tensor(storage: storage, byteOffset: start, shape: entry.shape, dtype: entry.dtype)
        }
        let copy = Storage(byteCount: entry.byteRange.count)
        copy.base.copyMemory(from: storage.base + start, byteCount: entry.byteRange.count)
        return Tensor(storage: copy, shape: entry.shape, dtype: entry.dtype)
    }
}

extension Storage {
    /// Maps a file of a checkpoint.
    convenience init(checkpoint path: String) throws(CheckpointError) {
        do throws(StorageError) {
            try self.init(mapping: path)
        } catch {
            throw .inaccessible(path: path, reason: "cannot \(error.action): \(CheckpointError.reason(error.errno))")
        }
    }

    /// A copy of all bytes, for small files. The storage stays until it is made.
    var copiedBytes: [UInt8] {
        withExtendedLifetime(self) { [UInt8](UnsafeRawBufferPointer(start: base, count: byteCount)) }
    }
}
