internal import Foundation

/// Locks between processes, the same as those of `huggingface_hub` (`flock` on a file of its own).
enum FileLock {
    /// How often a lock that another process has is asked for.
    private static let interval = Duration.milliseconds(100)

    /// Runs something while no other process holds the lock.
    ///
    /// A file system without locks is worked on without them: what is written is the same whoever writes it.
    ///
    /// - Parameters:
    ///   - path: of the lock's file, which is made and stays.
    ///   - work: what must not happen twice at once.
    /// - Returns: what it returns.
    /// - Throws: what it throws; `HubError.inaccessible`; `CancellationError` while waiting.
    static func hold<Result>(_ path: String, _ work: () async throws -> Result) async throws -> Result {
        try HubCache.makeFolder(of: path)
        // Writable for the group, as huggingface_hub makes them for caches that several people share.
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o664)
        guard file >= 0 else { throw HubError.inaccessible(path, errno: errno) }
        defer { close(file) }
        while flock(file, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR else { break }
            try await Task.sleep(for: interval)
        }
        return try await work()
    }
}
