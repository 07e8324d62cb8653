internal import Foundation

/// A file that the command line asks for.
enum OutputFile {
    /// Writes the whole file: beside its place first, then renamed.
    ///
    /// - Throws: `InputError` where it cannot be written.
    static func write(_ data: Data, to path: String) throws {
        do {
            try data.write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw InputError(path, "cannot be written: \(error.localizedDescription)")
        }
    }
}
