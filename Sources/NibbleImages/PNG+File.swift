internal import Foundation

extension PNG {
    /// Reads a PNG file; see `decode`.
    ///
    /// - Parameter path: a regular file.
    /// - Returns: the picture and its texts.
    /// - Throws: `ImageError`.
    public static func read(_ path: String) throws(ImageError) -> Contents {
        let file = URL(filePath: path).resolvingSymlinksInPath()
        let data: Data
        do {
            // A pipe or a device may have no end.
            guard kind(of: file) != .other else { throw ImageError.unreadable(path: path, reason: "not a file") }
            data = try Data(contentsOf: file, options: .alwaysMapped)
        } catch let error as ImageError {
            throw error
        } catch {
            throw .unreadable(path: path, reason: reason(of: error))
        }
        return try decode(data, name: path)
    }

    /// Writes a PNG file; see `encode`. The bytes are first written beside the file and then given its name, so that a
    /// full disk or a killed process costs nothing that was there. What is no file (a pipe, a device) is written directly.
    ///
    /// - Parameters:
    ///   - bitmap: the picture.
    ///   - texts: its texts.
    ///   - path: the file. Its folder must exist.
    /// - Throws: `ImageError`.
    public static func write(_ bitmap: Bitmap, texts: [Text] = [], to path: String) throws(ImageError) {
        let data = try encode(bitmap, texts: texts, name: path)
        // The file behind a symbolic link is replaced, not the link.
        let file = URL(filePath: path).resolvingSymlinksInPath()
        do {
            try data.write(to: file, options: kind(of: file) == .other ? [] : .atomic)
        } catch {
            guard isFull(error) else { throw .unwritable(path: path, reason: reason(of: error)) }
            throw .diskFull(path: path, byteCount: data.count)
        }
    }

    private enum Kind { case missing, file, other }

    private static func kind(of file: URL) -> Kind {
        guard let type = try? FileManager.default.attributesOfItem(atPath: file.path)[.type] as? FileAttributeType
        else {
            return .missing
        }
        return type == .typeRegular ? .file : .other
    }

    /// Whether there was no room: on the disk, in the user's quota, or below the largest file that the file system or
    /// this process may have.
    private static func isFull(_ error: any Error) -> Bool {
        if let error = error as? CocoaError, error.code == .fileWriteOutOfSpace { return true }
        return cause(of: error).map { [.ENOSPC, .EDQUOT, .EFBIG].contains($0) } ?? false
    }

    /// The system's words where there are any: Foundation's own name neither the cause nor the file.
    private static func reason(of error: any Error) -> String {
        cause(of: error).map { String(cString: strerror($0.rawValue)) } ?? error.localizedDescription
    }

    /// The system's error number behind an error of Foundation's.
    private static func cause(of error: any Error) -> POSIXErrorCode? {
        ((error as NSError).userInfo[NSUnderlyingErrorKey] as? POSIXError)?.code
    }
}
