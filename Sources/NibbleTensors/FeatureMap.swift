/// Some rows of a picture of features, channels last, so that a row of pixels is contiguous and a convolution of one
/// pixel is a matrix product.
public struct FeatureMap: Sendable {
    /// `[rows.count · width, channels]`, f32 or bf16.
    public let tensor: Tensor
    /// Which rows of the picture these are.
    public let rows: Range<Int>
    /// Height of the whole picture in pixels.
    public let height: Int
    /// Width in pixels.
    public let width: Int

    /// - Parameters:
    ///   - tensor: `[rows · width, channels]`.
    ///   - height: of the whole picture.
    ///   - width: in pixels.
    ///   - rows: which rows the tensor holds; nil: all.
    public init(_ tensor: Tensor, height: Int, width: Int, rows: Range<Int>? = nil) {
        self.tensor = tensor
        self.rows = rows ?? 0..<height
        self.height = height
        self.width = width
        precondition(tensor.shape.rank == 2 && tensor.isContiguous && tensor.rows == self.rows.count * width)
        precondition(self.rows.lowerBound >= 0 && self.rows.upperBound <= height)
    }

    /// The number of channels.
    public var channels: Int { tensor.width }

    /// Some of the rows, as a view.
    ///
    /// - Parameter range: rows of the whole picture that are held here.
    /// - Returns: those rows.
    /// - Returns: the rows, which share this map's memory.
    public func slice(_ range: Range<Int>) -> FeatureMap {
        precondition(range.lowerBound >= rows.lowerBound && range.upperBound <= rows.upperBound)
        let first = (range.lowerBound - rows.lowerBound) * width
        return FeatureMap(
            tensor.rows(first..<first + range.count * width), height: height, width: width, rows: range)
    }

    /// Rows that one thread works at once. It follows from the picture's size alone, so that results do not depend on
    /// the number of threads: a sixteenth of a small picture, so that there is something to share; at least 4 rows, as
    /// a convolution reads two more than it writes; of wide pictures about 8,192 pixels: with half of them oneDNN's
    /// convolutions of 128 channels lost 12 % on a Zen 4, with twice as many they gained nothing.
    public static func bandHeight(height: Int, width: Int) -> Int {
        max(4, min((height + 15) / 16, 8192 / max(width, 1)))
    }

    /// The rows split where the bands of the whole picture begin.
    static func bands(of rows: Range<Int>, height: Int, width: Int) -> [Range<Int>] {
        let step = bandHeight(height: height, width: width)
        guard !rows.isEmpty else { return [] }
        return (rows.lowerBound / step...(rows.upperBound - 1) / step).map { band in
            max(band * step, rows.lowerBound)..<min((band + 1) * step, rows.upperBound)
        }
    }
}
