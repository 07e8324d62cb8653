internal import Foundation

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

    /// The peak signal-to-noise ratio in decibels, 10·log₁₀(255² / mean squared difference of the bytes).
    ///
    /// - Parameter other: the picture to compare with.
    /// - Returns: infinity for equal pictures; nil for pictures of different sizes.
    public func peakSignalToNoiseRatio(to other: Bitmap) -> Double? {
        guard width == other.width, height == other.height else { return nil }
        var squares = 0
        for (mine, theirs) in zip(pixels, other.pixels) {
            let difference = Int(mine) - Int(theirs)
            squares += difference * difference
        }
        return 10 * log10(255 * 255 * Double(pixels.count) / Double(squares))
    }
}
