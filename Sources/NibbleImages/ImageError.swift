/// What can be wrong with a picture file. Every case that belongs to a file names it.
public enum ImageError: Error, Equatable, CustomStringConvertible {
    /// The file cannot be opened or read.
    case unreadable(path: String, reason: String)
    /// The file does not begin as a PNG does.
    case notPNG(path: String)
    /// The file ends before the picture does.
    case truncated(path: String, reason: String)
    /// A checksum, a chunk or the compressed data is wrong; the reason is libpng's.
    case malformed(path: String, reason: String)
    /// The picture has more pixels than are read or written.
    case tooLarge(path: String, width: Int, height: Int)
    /// A text that PNG cannot hold: an empty, long or unprintable key, or a zero inside the text.
    case unstorableText(key: String, reason: String)
    /// The file cannot be written. What lay there before is untouched.
    case unwritable(path: String, reason: String)
    /// The disk has no room for the file. What lay there before is untouched.
    case diskFull(path: String, byteCount: Int)
    /// There is no memory for the picture.
    case outOfMemory(path: String)

    /// What is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
        case .notPNG(let path): "\(path) is not a PNG; convert the picture to PNG first"
        case .truncated(let path, let reason):
            "\(path) is incomplete: \(reason); copy or download it again"
        case .malformed(let path, let reason):
            "\(path) is damaged: \(reason); copy or download it again, or save the picture anew"
        case .tooLarge(let path, let width, let height):
            "\(path): \(width) × \(height) is more than the \(PNG.maximumSide) pixels a side and "
                + "\(PNG.maximumPixelCount) in all that are read and written"
        case .unstorableText(let key, let reason): "the text '\(key)' cannot be stored in a PNG: \(reason)"
        case .unwritable(let path, let reason): "cannot write \(path): \(reason)"
        case .diskFull(let path, let byteCount):
            "cannot write \(path): the disk has no room for its \(byteCount) bytes; free some or choose another folder"
        case .outOfMemory(let path): "\(path): not enough memory for this picture"
        }
    }
}
