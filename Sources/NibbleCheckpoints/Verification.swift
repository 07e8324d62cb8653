internal import Foundation
public import NibbleTensors
internal import Synchronization

extension Inspection {
    /// A tensor in which NaN or infinity was found.
    public struct Finding: Sendable, Equatable {
        /// The component's name.
        public let component: String
        /// The tensor's name.
        public let tensor: String
        /// The file.
        public let file: String
        /// How many elements.
        public let count: NonFiniteCount
    }

    /// Reads every byte of every tensor and looks for NaN and infinity. Reads through the file's descriptor, not the
    /// mapping: a disk that fails or a file that is cut short meanwhile is then an error and not the end of the process.
    ///
    /// - Parameters:
    ///   - pool: the threads that read and look.
    ///   - progress: called now and then on the caller's thread with the bytes done and the bytes in all.
    /// - Returns: the tensors that hold any, in the order of components and names.
    /// - Throws: `CheckpointError.inaccessible` where reading fails.
    public func verify(
        on pool: ThreadPool, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) throws(CheckpointError) -> [Finding] {
        let stored = components.flatMap { component in component.tensors.map { (component.name, $0) } }
        let files = try OpenFiles(Set(stored.map(\.1.file)))
        let chunks = stored.enumerated().flatMap { index, item in Self.chunks(of: item.1, index, files) }
        let total = chunks.reduce(0) { $0 + $1.range.count }
        let buffers = (0..<pool.threadCount).map { _ in Storage(byteCount: Chunk.size) }
        let state = Mutex(Scan())
        var done = 0
        // Between batches the caller hears of the progress; each is long enough that the wait for its last part is small.
        for start in stride(from: 0, to: chunks.count, by: Chunk.batch) {
            let batch = chunks[start..<min(start + Chunk.batch, chunks.count)]
            pool.run(batch.count) { part, worker in
                let chunk = batch[start + part]
                let outcome = chunk.scan(into: buffers[worker])
                state.withLock { $0.add(outcome, chunk.tensor) }
            }
            if let failure = state.withLock({ $0.failure }) {
                throw .inaccessible(path: stored[failure.tensor].1.file, reason: failure.reason)
            }
            done += batch.reduce(0) { $0 + $1.range.count }
            progress(done, total)
        }
        withExtendedLifetime(files) {}
        return state.withLock { $0.counts }.sorted { $0.key < $1.key }.map { index, count in
            let (component, tensor) = stored[index]
            return Finding(component: component, tensor: tensor.entry.name, file: tensor.file, count: count)
        }
    }

    private static func chunks(of tensor: StoredTensor, _ index: Int, _ files: OpenFiles) -> [Chunk] {
        let range = tensor.entry.byteRange
        return stride(from: range.lowerBound, to: range.upperBound, by: Chunk.size).map { start in
            Chunk(
                tensor: index, dtype: tensor.entry.dtype, descriptor: files.descriptor(tensor.file),
                range: start..<min(start + Chunk.size, range.upperBound))
        }
    }
}

/// A piece of a tensor that one worker reads at a time.
private struct Chunk: Sendable {
    /// Stays in a core's second cache, so that what was read is looked at before it leaves; a multiple of every element.
    static let size = 512 << 10
    static let batch = 512

    let tensor: Int
    let dtype: DType
    let descriptor: Int32
    let range: Range<Int>

    func scan(into buffer: Storage) -> Result<NonFiniteCount, ReadFailure> {
        var done = 0
        while done < range.count {
            let count = pread(descriptor, buffer.base + done, range.count - done, off_t(range.lowerBound + done))
            if count == 0 { return .failure(ReadFailure(reason: "the file was cut short while it was read")) }
            if count > 0 {
                done += count
            } else if errno != EINTR {
                return .failure(ReadFailure(reason: "cannot read: \(CheckpointError.reason(errno))"))
            }
        }
        return .success(NonFiniteScan.count(UnsafeRawBufferPointer(start: buffer.base, count: done), dtype))
    }
}

private struct ReadFailure: Error {
    let reason: String
}

/// What the workers have found so far, by the tensor's index.
private struct Scan {
    var counts: [Int: NonFiniteCount] = [:]
    var failure: (tensor: Int, reason: String)?

    mutating func add(_ outcome: Result<NonFiniteCount, ReadFailure>, _ tensor: Int) {
        switch outcome {
        case .success(let count) where count != NonFiniteCount(): counts[tensor, default: .init()] += count
        case .success: break
        case .failure(let error): failure = failure ?? (tensor, error.reason)
        }
    }
}

/// Files that stay open while they are read.
private final class OpenFiles {
    private var descriptors: [String: Int32] = [:]

    init(_ paths: Set<String>) throws(CheckpointError) {
        for path in paths {
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else {
                throw .inaccessible(path: path, reason: "cannot open: \(CheckpointError.reason(errno))")
            }
            descriptors[path] = descriptor
        }
    }

    deinit { for descriptor in descriptors.values { close(descriptor) } }

    func descriptor(_ path: String) -> Int32 { descriptors[path] ?? -1 }
}
