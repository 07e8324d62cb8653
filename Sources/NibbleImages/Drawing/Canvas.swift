/// A color of a drawing.
struct Color: Equatable {
    let red, green, blue: UInt8

    init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) { (self.red, self.green, self.blue) = (red, green, blue) }

    fileprivate var channels: [UInt8] { [red, green, blue] }
}

/// How a text looks.
struct TextStyle {
    /// The height of capitals in pixels.
    let size: Double
    /// The width of the pen in pixels.
    let weight: Double
    let color: Color

    /// From one base line to the next, in pixels.
    var lineHeight: Int { Int((size * 1.9).rounded()) }
    /// Pixels of one of the font's units.
    fileprivate var unit: Double { size / StrokeFont.capHeight }

    /// The lines of a text that is to be no wider than some pixels.
    func lines(_ text: String, width: Int, limit: Int) -> [String] {
        StrokeFont.lines(text, width: (Double(width) - weight) / unit, limit: limit)
    }

    /// The width of a text in pixels.
    func width(of text: String) -> Int { Int((StrokeFont.width(of: text) * unit + weight).rounded(.up)) }
}

/// A picture that is being drawn. What lies outside of it is not drawn.
struct Canvas {
    let width, height: Int
    private var pixels: [UInt8]

    /// A canvas of one color.
    init(width: Int, height: Int, color: Color) {
        (self.width, self.height) = (width, height)
        pixels = [UInt8](repeating: 0, count: width * height * 3)
        fill(0..<width, 0..<height, color)
    }

    /// What was drawn.
    var bitmap: Bitmap { Bitmap(width: width, height: height, pixels: pixels) }

    /// Fills a rectangle.
    mutating func fill(_ columns: Range<Int>, _ rows: Range<Int>, _ color: Color) {
        for row in rows.clamped(to: 0..<height) {
            for column in columns.clamped(to: 0..<width) {
                for (channel, value) in color.channels.enumerated() {
                    pixels[(row * width + column) * 3 + channel] = value
                }
            }
        }
    }

    /// Puts a picture with its upper left corner at a place.
    mutating func draw(_ bitmap: Bitmap, x: Int, y: Int) {
        let columns = (x..<x + bitmap.width).clamped(to: 0..<width)
        guard !columns.isEmpty else { return }
        for row in (y..<y + bitmap.height).clamped(to: 0..<height) {
            let source = ((row - y) * bitmap.width + columns.lowerBound - x) * 3
            let target = (row * width + columns.lowerBound) * 3
            pixels.replaceSubrange(
                target..<target + columns.count * 3, with: bitmap.pixels[source..<source + columns.count * 3])
        }
    }

    /// Writes a line of text.
    ///
    /// - Parameters:
    ///   - text: the text.
    ///   - x: its left edge.
    ///   - baseline: the row that letters stand on.
    ///   - style: how it looks.
    mutating func write(_ text: String, x: Int, baseline: Int, _ style: TextStyle) {
        for (glyph, offset) in StrokeFont.placed(text) {
            let origin = Double(x) + style.weight / 2 + offset * style.unit
            stroke(glyph, x: origin, baseline: Double(baseline) - style.weight / 2, style)
        }
    }

    /// Draws a glyph: a pixel is covered as far as its middle lies within the pen around the nearest stroke.
    private mutating func stroke(_ glyph: StrokeFont.Glyph, x: Double, baseline: Double, _ style: TextStyle) {
        let pieces = glyph.pieces.map { piece in
            (
                from: StrokeFont.Point(x: x + piece.from.x * style.unit, y: baseline - piece.from.y * style.unit),
                to: StrokeFont.Point(x: x + piece.to.x * style.unit, y: baseline - piece.to.y * style.unit)
            )
        }
        let points = pieces.flatMap { [$0.from, $0.to] }
        let reach = style.weight / 2 + 1
        guard let left = points.map(\.x).min(), let right = points.map(\.x).max(),
            let top = points.map(\.y).min(), let bottom = points.map(\.y).max()
        else { return }
        let columns = (Int(left - reach)..<Int(right + reach) + 1).clamped(to: 0..<width)
        for row in (Int(top - reach)..<Int(bottom + reach) + 1).clamped(to: 0..<height) {
            for column in columns {
                let middle = StrokeFont.Point(x: Double(column) + 0.5, y: Double(row) + 0.5)
                let distance = pieces.reduce(Double.infinity) { min($0, middle.squaredDistance(to: $1)) }.squareRoot()
                let coverage = min(1, 0.5 + style.weight / 2 - distance)
                if coverage > 0 { blend(style.color, coverage, row: row, column: column) }
            }
        }
    }

    private mutating func blend(_ color: Color, _ coverage: Double, row: Int, column: Int) {
        let place = (row * width + column) * 3
        for (channel, value) in color.channels.enumerated() {
            let below = Double(pixels[place + channel])
            pixels[place + channel] = UInt8((below + (Double(value) - below) * coverage).rounded())
        }
    }
}

extension StrokeFont.Point {
    /// The square of the distance to the nearest point of a straight piece.
    fileprivate func squaredDistance(to piece: (from: StrokeFont.Point, to: StrokeFont.Point)) -> Double {
        let (alongX, alongY) = (piece.to.x - piece.from.x, piece.to.y - piece.from.y)
        let square = alongX * alongX + alongY * alongY
        let projection = (x - piece.from.x) * alongX + (y - piece.from.y) * alongY
        let part = square > 0 ? min(1, max(0, projection / square)) : 0
        let (apartX, apartY) = (x - piece.from.x - part * alongX, y - piece.from.y - part * alongY)
        return apartX * apartX + apartY * apartY
    }
}
