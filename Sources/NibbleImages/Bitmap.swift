/// A picture in memory: 8-bit RGB, as it is shown.
public struct Bitmap: Sendable, Equatable {
    /// The number of columns, at least 1.
    public let width: Int
    /// The number of rows, at least 1.
    public let height: Int
    /// The pixels, `[height, width, 3]`, row-major, top row first, red before green before blue.
    public let pixels: [UInt8]

    /// A picture of the given pixels.
    ///
    /// - Parameters:
    ///   - width: the number of columns, at least 1.
    ///   - height: the number of rows, at least 1.
    ///   - pixels: `[height, width, 3]`, row-major.
    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(width > 0 && height > 0, "a picture of \(width) × \(height) pixels")
        precondition(pixels.count == width * height * 3, "\(pixels.count) bytes for \(width) × \(height) pixels")
        self.width = width
        self.height = height
        self.pixels = pixels
    }
}
