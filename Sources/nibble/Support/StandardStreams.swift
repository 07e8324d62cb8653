internal import Foundation

/// The two streams that the program writes to, and the signals that writing can raise.
enum StandardStreams {
    /// Has a write that fails say so with an error number, where the signal's default ends the process without a word.
    static func prepare() {
        // A reader that went away, as in `nibble inspect … | head -1`: EPIPE.
        signal(SIGPIPE, SIG_IGN)
        // A file that grows beyond `ulimit -f`: EFBIG.
        signal(SIGXFSZ, SIG_IGN)
    }

    /// Writes to standard error. Where that is closed, the work goes on: nobody listens.
    static func writeError(_ text: String) {
        try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }

    /// Writes out what was printed and is still in the C library's buffers.
    ///
    /// - Throws: `InputError` where it cannot be written. A reader that went away has what it wanted.
    static func flush() throws {
        guard fflush(nil) != 0, errno != EPIPE else { return }
        throw InputError("standard output", "cannot be written: \(String(cString: strerror(errno)))")
    }
}
