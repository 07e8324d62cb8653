internal import Foundation

/// A file that the command line asks for.
enum OutputFile {
    /// Checks that the file's folder can be written to, before minutes are spent.
    ///
    /// - Parameters:
    ///   - path: of the file.
    ///   - example: what one might call it.
    /// - Throws: `InputError` where it cannot be.
    static func check(_ path: String, example: String) throws {
        let file = URL(filePath: path)
        let folder = file.deletingLastPathComponent().path
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) else {
            throw InputError(path, "there is no folder \(folder)")
        }
        guard isFolder.boolValue else { throw InputError(path, "\(folder) is a file, not a folder") }
        if FileManager.default.fileExists(atPath: file.path, isDirectory: &isFolder), isFolder.boolValue {
            throw InputError(path, "is a folder; name a file, such as \(file.appending(path: example).relativePath)")
        }
        guard FileManager.default.isWritableFile(atPath: folder) else {
            throw InputError(path, "the folder \(folder) cannot be written to")
        }
    }

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
