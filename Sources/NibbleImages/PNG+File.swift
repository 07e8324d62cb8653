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
        } catch let error as CocoaError where error.code == .fileWriteOutOfSpace {
            throw .diskFull(path: path, byteCount: data.count)
        } catch {
            throw .unwritable(path: path, reason: reason(of: error))
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

    /// The system's words where there are any: Foundation's own name neither the cause nor the file.
    private static func reason(of error: any Error) -> String {
        let error = error as NSError
        guard let cause = error.userInfo[NSUnderlyingErrorKey] as? POSIXError else { return error.localizedDescription }
        return String(cString: strerror(cause.code.rawValue))
    }
}
