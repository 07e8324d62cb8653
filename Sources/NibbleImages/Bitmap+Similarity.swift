internal import Foundation

extension Bitmap {
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

    /// The mean structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004): windows of 11 × 11 pixels under a Gaussian
    /// of σ 1.5, K₁ 0.01, K₂ 0.03, over all windows that lie within the picture, and the mean over red, green and blue.
    /// That is what scikit-image's `structural_similarity` gives with `gaussian_weights=True,
    /// use_sample_covariance=False, channel_axis=2, data_range=255`.
    ///
    /// - Parameter other: the picture to compare with.
    /// - Returns: at most 1, which is for equal pictures; nil for pictures of different sizes, or smaller than a window.
    public func structuralSimilarity(to other: Bitmap) -> Double? {
        let size = SimilarityWindow.weights.count
        guard width == other.width, height == other.height, min(width, height) >= size else { return nil }
        var sum = 0.0
        for channel in 0..<3 {
            let mine = stride(from: channel, to: pixels.count, by: 3).map { Double(pixels[$0]) }
            let theirs = stride(from: channel, to: pixels.count, by: 3).map { Double(other.pixels[$0]) }
            for row in 0...(height - size) {
                sum += SimilarityWindow.sum(mine, theirs, width: width, row: row)
            }
        }
        return sum / Double(3 * (width - size + 1) * (height - size + 1))
    }
}

/// The local statistics of structural similarity.
private enum SimilarityWindow {
    /// A Gaussian of σ 1.5 at -5...5, of sum 1. In both directions it is the paper's window of 11 × 11.
    static let weights: [Double] = {
        let values = (-5...5).map { exp(-Double($0 * $0) / (2 * 1.5 * 1.5)) }
        let sum = values.reduce(0, +)
        return values.map { $0 / sum }
    }()

    /// (K₁L)² and (K₂L)², which keep the quotients stable where all is dark or flat.
    static let (stabilizer1, stabilizer2) = (0.01 * 255 * 0.01 * 255, 0.03 * 255 * 0.03 * 255)

    /// Weighted means of two pictures' values, of their squares, and of their product.
    private struct Moments {
        var x = 0.0
        var y = 0.0
        var xx = 0.0
        var yy = 0.0
        var xy = 0.0

        mutating func add(_ other: Moments, _ weight: Double) {
            x += weight * other.x
            y += weight * other.y
            xx += weight * other.xx
            yy += weight * other.yy
            xy += weight * other.xy
        }

        /// The paper's equation 13.
        var similarity: Double {
            let (varianceX, varianceY, covariance) = (xx - x * x, yy - y * y, xy - x * y)
            return (2 * x * y + stabilizer1) * (2 * covariance + stabilizer2)
                / ((x * x + y * y + stabilizer1) * (varianceX + varianceY + stabilizer2))
        }
    }

    /// The sum of the similarities of all windows whose upper row is `row`: the Gaussian goes down the columns first, then
    /// along the row.
    static func sum(_ mine: [Double], _ theirs: [Double], width: Int, row: Int) -> Double {
        var columns = [Moments](repeating: Moments(), count: width)
        for (offset, weight) in weights.enumerated() {
            let start = (row + offset) * width
            for column in 0..<width {
                let (x, y) = (mine[start + column], theirs[start + column])
                columns[column].add(Moments(x: x, y: y, xx: x * x, yy: y * y, xy: x * y), weight)
            }
        }
        var sum = 0.0
        for column in 0...(width - weights.count) {
            var window = Moments()
            for (offset, weight) in weights.enumerated() { window.add(columns[column + offset], weight) }
            sum += window.similarity
        }
        return sum
    }
}
