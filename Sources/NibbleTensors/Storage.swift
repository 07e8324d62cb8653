#if canImport(Glibc)
    internal import Glibc
#else
    internal import Darwin
#endif

/// Bytes that tensors look into: memory of our own, or a file mapped for reading.
///
/// `@unchecked Sendable`: owned bytes are written only by the holder of a tensor that it made itself and has not shared
/// yet, or by the workers of a `ThreadPool`, each in a range of its own; mapped bytes are never written.
public final class Storage: @unchecked Sendable {
    /// The first byte, aligned to 64 at least.
    public let base: UnsafeMutableRawPointer
    /// The number of bytes.
    public let byteCount: Int
    /// The mapped file's path; nil where the bytes are our own.
    public let path: String?

    /// Bytes that were mapped; 0: the memory is the C library's.
    private let mappedLength: Int
    private static let pageSize = Int(getpagesize())
    /// Linux reads no more for one call than the device's read-ahead, 128 KiB as it comes, and forgets the rest
    /// (mm/readahead.c, `force_page_cache_ra`).
    private static let fetchedAtOnce = 128 << 10

    /// Bytes from which on memory comes straight from the system, in pages of 2 MiB. Below, a page fault for each 4 KiB
    /// takes several times as long as writing zeros over memory that was used before.
    private static let mappedFrom = 4 << 20

    /// Zeroed memory. A large piece comes straight from the system, so that untouched pages cost nothing.
    ///
    /// - Parameter byteCount: the number of bytes, at least 0.
    public init(byteCount: Int) {
        precondition(byteCount >= 0)
        self.byteCount = byteCount
        path = nil
        guard byteCount >= Self.mappedFrom else {
            var address: UnsafeMutableRawPointer?
            guard posix_memalign(&address, 64, max(byteCount, 1)) == 0, let address else {
                fatalError("out of memory: \(byteCount) bytes")
            }
            memset(address, 0, byteCount)
            base = address
            mappedLength = 0
            return
        }
        mappedLength = byteCount
        let address = mmap(nil, mappedLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
        guard let address, address != MAP_FAILED else { fatalError("out of memory: \(byteCount) bytes") }
        #if os(Linux)
            // Pages of 2 MiB: fewer faults in the first step, fewer misses of the address cache in all of them.
            _ = madvise(address, mappedLength, 14 /* MADV_HUGEPAGE */)
        #endif
        base = address
    }

    /// Maps a whole file for reading.
    ///
    /// - Parameter path: the file.
    /// - Throws: `StorageError` when the file cannot be opened or mapped.
    public init(mapping path: String) throws(StorageError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw StorageError(path: path, action: "open", errno: errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw StorageError(path: path, action: "examine", errno: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw StorageError(path: path, action: "map", errno: EISDIR) }
        byteCount = Int(status.st_size)
        mappedLength = max(byteCount, 1)
        self.path = path
        let address = mmap(nil, mappedLength, PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let address, address != MAP_FAILED else { throw StorageError(path: path, action: "map", errno: errno) }
        base = address
    }

    deinit { if mappedLength > 0 { munmap(base, mappedLength) } else { free(base) } }

    /// What is going to happen to a range of the bytes.
    public enum Advice: Sendable {
        /// It is read soon: the system may fetch it ahead.
        case willNeed
        /// A mapped file's pages are not read soon: they may leave this process's memory. Their contents stay in the file.
        case release
    }

    /// Passes advice about a range to the system. Owned memory is left alone.
    ///
    /// - Parameters:
    ///   - advice: what is going to happen.
    ///   - range: bytes from the start of the storage.
    public func advise(_ advice: Advice, _ range: Range<Int>) {
        guard path != nil, !range.isEmpty else { return }
        // A page that the range shares with a neighbor may go too: it comes back from the file when it is read.
        let start = range.lowerBound / Self.pageSize * Self.pageSize
        guard advice == .willNeed else {
            madvise(base + start, range.upperBound - start, MADV_DONTNEED)
            return
        }
        for piece in stride(from: start, to: range.upperBound, by: Self.fetchedAtOnce) {
            madvise(base + piece, min(Self.fetchedAtOnce, range.upperBound - piece), MADV_WILLNEED)
        }
    }
}

/// A file that could not be mapped.
public struct StorageError: Error, Equatable, CustomStringConvertible {
    /// The file.
    public let path: String
    /// What was tried: "open", "map".
    public let action: String
    /// The system's error number.
    public let errno: Int32

    /// What could not be done, with which file, and the system's reason.
    public var description: String { "cannot \(action) \(path): \(String(cString: strerror(errno)))" }
}
