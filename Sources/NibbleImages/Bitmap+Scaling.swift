extension Bitmap {
    /// The picture at about a given size: a small one enlarged by a whole number, so that its pixels stay sharp; a large
    /// one made smaller by averaging; one that is within a half of the size, unchanged.
    ///
    /// - Parameter side: of the longer side, in pixels, at least 1.
    /// - Returns: a picture whose longer side is at most 1.5 times that long.
    public func thumbnail(side: Int) -> Bitmap {
        let longer = max(width, height)
        if 2 * longer > 3 * side {
            return averaged(width: max(1, width * side / longer), height: max(1, height * side / longer))
        }
        return enlarged(by: max(1, Int((Double(side) / Double(longer)).rounded())))
    }

    /// Every pixel as a square of `factor` × `factor`.
    func enlarged(by factor: Int) -> Bitmap {
        precondition(factor >= 1)
        guard factor > 1 else { return self }
        var pixels: [UInt8] = []
        pixels.reserveCapacity(self.pixels.count * factor * factor)
        for row in 0..<height {
            var line: [UInt8] = []
            for column in 0..<width {
                let start = (row * width + column) * 3
                for _ in 0..<factor { line += self.pixels[start..<start + 3] }
            }
            for _ in 0..<factor { pixels += line }
        }
        return Bitmap(width: width * factor, height: height * factor, pixels: pixels)
    }

    /// Box filter: each pixel is the mean of the area that it covers, parts of pixels included.
    ///
    /// - Parameters:
    ///   - newWidth: at most the width.
    ///   - newHeight: at most the height.
    /// - Returns: the picture of that size.
    func averaged(width newWidth: Int, height newHeight: Int) -> Bitmap {
        precondition((1...width).contains(newWidth) && (1...height).contains(newHeight))
        let columns = Self.shares(of: width, in: newWidth)
        let rows = Self.shares(of: height, in: newHeight)
        var result: [UInt8] = []
        result.reserveCapacity(newWidth * newHeight * 3)
        for row in rows {
            for column in columns {
                var sums = (0.0, 0.0, 0.0)
                for (y, rowShare) in row {
                    for (x, columnShare) in column {
                        let (place, share) = ((y * width + x) * 3, rowShare * columnShare)
                        sums.0 += share * Double(pixels[place])
                        sums.1 += share * Double(pixels[place + 1])
                        sums.2 += share * Double(pixels[place + 2])
                    }
                }
                result += [sums.0, sums.1, sums.2].map { UInt8(min(255, $0.rounded())) }
            }
        }
        return Bitmap(width: newWidth, height: newHeight, pixels: result)
    }

    /// Which of `count` pixels, and what shares of the whole, each of `newCount` equal parts covers.
    private static func shares(of count: Int, in newCount: Int) -> [[(pixel: Int, share: Double)]] {
        (0..<newCount).map { part in
            // In units of 1 / newCount pixels, everything is a whole number.
            let covered = part * count..<(part + 1) * count
            let pixels = covered.lowerBound / newCount...(covered.upperBound - 1) / newCount
            return pixels.map { pixel in
                let overlap = covered.clamped(to: pixel * newCount..<(pixel + 1) * newCount)
                return (pixel, Double(overlap.count) / Double(count))
            }
        }
    }
}
