internal import Foundation
internal import Synchronization

/// A blob on its way: what has come is written at its place and hashed, and is there for the next try after a cut.
final class PartialFile: Sendable {
    private struct State {
        var count: Int
        var hash: ContentHash
    }

    /// Bytes read at once where an earlier try's are hashed.
    private static let pieceSize = 1 << 20

    let path: String
    /// Of the whole content.
    let size: Int
    /// Bytes that an earlier try left.
    let resumedFrom: Int
    private let name: String
    private let id: ContentID
    private let descriptor: Int32
    private let state: Mutex<State>

    /// Opens or makes the file.
    ///
    /// - Parameters:
    ///   - path: of the part.
    ///   - name: for messages.
    ///   - id: what the whole content must hash to.
    ///   - size: bytes of the whole content.
    /// - Throws: `HubError.inaccessible`.
    init(_ path: String, name: String, id: ContentID, size: Int) throws(HubError) {
        try HubCache.makeFolder(of: path)
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        self.path = path
        self.name = name
        self.id = id
        self.size = size
        guard descriptor >= 0 else {
            let code = errno
            state = Mutex(State(count: 0, hash: ContentHash(id.kind, size: size)))
            resumedFrom = 0
            throw .inaccessible(path, errno: code)
        }
        let start = Self.existing(descriptor, kind: id.kind, size: size)
        resumedFrom = start.count
        state = Mutex(start)
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Bytes that are here.
    var count: Int { state.withLock { $0.count } }

    /// Adds bytes at the end.
    func append(_ data: Data) throws(HubError) {
        try state.withLock { state throws(HubError) in
            guard data.count <= size - state.count else {
                unlink(path)
                throw .wrongContent(file: name, found: "more than \(size) bytes", expected: "\(size) bytes")
            }
            let failure = data.withUnsafeBytes { bytes -> Int32? in
                state.hash.update(bytes)
                return Self.write(bytes, to: descriptor, at: state.count)
            }
            if let failure { throw writingFault(failure, at: state.count) }
            state.count += data.count
        }
    }

    /// Forgets what is here.
    func restart() throws(HubError) {
        try state.withLock { state throws(HubError) in
            guard ftruncate(descriptor, 0) == 0 else { throw .inaccessible(path, errno: errno) }
            state = State(count: 0, hash: ContentHash(id.kind, size: size))
        }
    }

    /// Looks whether the content is what it should be, and moves it to its place. A wrong one is removed.
    func finish(to destination: String) throws(HubError) {
        let found = state.withLock { $0.hash.digits() }
        if let found, found != id.description {
            unlink(path)
            throw .wrongContent(file: name, found: found, expected: id.description)
        }
        // The name must not reach the disk before the bytes do.
        guard fsync(descriptor) == 0, rename(path, destination) == 0 else { throw .inaccessible(path, errno: errno) }
    }

    private func writingFault(_ code: Int32, at count: Int) -> HubError {
        guard code == ENOSPC || code == EDQUOT else { return .inaccessible(path, errno: code) }
        return .noSpace(path: path, needed: size - count, available: 0)
    }

    /// - Returns: the error's number where not all could be written.
    private static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, at start: Int) -> Int32? {
        var written = 0
        while written < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
            // At its own place and not at the end: where locks do not work, two processes write the same twice.
            let count = pwrite(descriptor, rest.baseAddress, rest.count, off_t(start + written))
            if count < 0, errno != EINTR { return errno }
            written += max(0, count)
        }
        return nil
    }

    /// Hashes what an earlier try left; nothing of it is used where it is longer than the content.
    private static func existing(_ descriptor: Int32, kind: ContentID.Kind, size: Int) -> State {
        var state = State(count: 0, hash: ContentHash(kind, size: size))
        var piece = [UInt8](repeating: 0, count: pieceSize)
        while true {
            let count = pread(descriptor, &piece, piece.count, off_t(state.count))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            guard count <= size - state.count else {
                ftruncate(descriptor, 0)
                return State(count: 0, hash: ContentHash(kind, size: size))
            }
            piece.withUnsafeBytes { state.hash.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            state.count += count
        }
        return state
    }
}
