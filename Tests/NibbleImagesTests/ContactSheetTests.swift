internal import Foundation
internal import Testing

@testable internal import NibbleImages

@Suite struct ContactSheetTests {
    /// The part of a picture that begins at a place.
    private func part(_ bitmap: Bitmap, x: Int, y: Int, width: Int, height: Int) -> Bitmap {
        var rows: [UInt8] = []
        for row in y..<y + height {
            let start = (row * bitmap.width + x) * 3
            rows += bitmap.pixels[start..<start + width * 3]
        }
        return Bitmap(width: width, height: height, pixels: rows)
    }

    private func sheet(_ pictures: [[Bitmap]], titles: String = "column") -> ContactSheet {
        ContactSheet(
            title: titles, subtitle: titles,
            columns: (pictures.first ?? []).map { _ in ContactSheet.Column(title: titles, notes: [titles, titles]) },
            rows: pictures.map { row in
                ContactSheet.Row(title: titles, cells: row.map { ContactSheet.Cell($0, caption: titles) })
            })
    }

    @Test(arguments: [(128, 128), (16, 16), (1024, 1024), (640, 400), (96, 512), (300, 300)])
    func `every picture is where its row and column are`(_ width: Int, _ height: Int) {
        let pictures = (0..<3).map { row in
            (0..<2).map { column in
                let original = pattern(width: width, height: height)
                return Bitmap(
                    width: width, height: height, pixels: original.pixels.map { $0 &+ UInt8(row * 9 + column) })
            }
        }
        let sheet = sheet(pictures)
        let (drawn, layout) = (sheet.bitmap(), ContactSheet.Layout(sheet))
        #expect(drawn.width == layout.width && drawn.height == layout.height)
        for (row, bitmaps) in pictures.enumerated() {
            for (column, bitmap) in bitmaps.enumerated() {
                let shown = bitmap.thumbnail(side: ContactSheet.side)
                let (x, y) = (layout.columnLeft(column), layout.pictureTop(row))
                #expect(part(drawn, x: x, y: y, width: shown.width, height: shown.height) == shown)
            }
        }
    }

    @Test(arguments: ["", "x", String(repeating: "a very long title with gyp ", count: 40), "Ünïcödé 漢字 👍\n\u{0}"])
    func `labels of any length stay off the margin and the pictures`(_ titles: String) {
        let blank = Bitmap(width: 128, height: 128, pixels: [UInt8](repeating: 77, count: 128 * 128 * 3))
        let sheet = sheet([[blank, blank], [blank, blank]], titles: titles)
        let (drawn, layout) = (sheet.bitmap(), ContactSheet.Layout(sheet))
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let picture = part(
                drawn, x: layout.columnLeft(column), y: layout.pictureTop(row), width: 256, height: 256)
            #expect(picture.pixels.allSatisfy { $0 == 77 })
        }
        let margin = 20
        let sides = [
            part(drawn, x: 0, y: 0, width: margin, height: drawn.height),
            part(drawn, x: drawn.width - margin, y: 0, width: margin, height: drawn.height),
            part(drawn, x: 0, y: 0, width: drawn.width, height: margin),
            part(drawn, x: 0, y: drawn.height - margin, width: drawn.width, height: margin),
        ]
        for side in sides { #expect(side.pixels.allSatisfy { $0 == 255 }) }
    }

    @Test func `a sheet of nothing is a sheet`() {
        let empty = ContactSheet(title: "", columns: [], rows: []).bitmap()
        #expect(empty.pixels.allSatisfy { $0 == 255 })
    }

    @Test(arguments: [(1, 256), (16, 256), (100, 300), (128, 256), (200, 200), (384, 384), (385, 256), (1024, 256)])
    func `thumbnails are about as large as they should be`(_ side: Int, _ expected: Int) {
        #expect(pattern(width: side, height: side).thumbnail(side: 256).width == expected)
    }

    /// Worked out by hand: parts of 1.5 pixels have means of (0 + 90 / 2) / 1.5 and (90 / 2 + 255) / 1.5.
    @Test func `made smaller, pixels are means of the areas they cover`() {
        let row = Bitmap(width: 3, height: 1, pixels: [0, 0, 10, 90, 0, 10, 255, 0, 10])
        #expect(row.averaged(width: 2, height: 1).pixels == [30, 0, 10, 200, 0, 10])
        let square = Bitmap(width: 2, height: 2, pixels: [0, 1, 8, 2, 1, 8, 4, 1, 8, 6, 1, 8])
        #expect(square.averaged(width: 1, height: 1).pixels == [3, 1, 8])
        #expect(square.averaged(width: 2, height: 2) == square)
    }

    @Test func `made larger, pixels are squares`() {
        let row = Bitmap(width: 2, height: 1, pixels: [1, 2, 3, 4, 5, 6])
        #expect(
            row.enlarged(by: 2).pixels == [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6] + [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6])
    }
}

@Suite struct StrokeFontTests {
    @Test func `every printable character has strokes within its box`() {
        let box = StrokeFont.glyph("漢").pieces.count
        for code in 33...126 {
            let character = Character(UnicodeScalar(UInt8(code)))
            let glyph = StrokeFont.glyph(character)
            let points = glyph.pieces.flatMap { [$0.from, $0.to] }
            #expect(!points.isEmpty && (glyph.pieces.count != box || glyph.width != 5), "\(character)")
            for point in points {
                // Curves are rounded in their last bits.
                #expect((-1e-9...glyph.width + 1e-9).contains(point.x) && (-3...11).contains(point.y), "\(character)")
            }
        }
        #expect(StrokeFont.glyph("é").width == StrokeFont.glyph("e").width)
    }

    @Test(arguments: [20.0, 60, 200], [1, 2, 50])
    func `lines are no wider than they may be, and lose no word`(_ width: Double, _ limit: Int) {
        let text = "the quick brown_fox-jumps over a-lazy/dog with incomprehensibilities"
        let lines = StrokeFont.lines(text, width: width, limit: limit)
        #expect(lines.count <= limit && lines.allSatisfy { StrokeFont.width(of: $0) <= width })
        let whole = lines.joined().replacing(" ", with: "")
        if let last = lines.last, last.hasSuffix("…") {
            #expect(lines.count == limit && text.replacing(" ", with: "").hasPrefix(whole.dropLast()))
        } else {
            #expect(whole == text.replacing(" ", with: ""))
        }
    }

    /// A pen of 2 pixels on a vertical stroke between two columns covers these two wholly and no other.
    @Test func `a stroke is as wide as the pen`() {
        var canvas = Canvas(width: 12, height: 30, color: Color(255, 255, 255))
        canvas.write("I", x: 5, baseline: 25, TextStyle(size: 20, weight: 2, color: Color(0, 0, 0)))
        let row = canvas.bitmap.pixels[15 * 12 * 3..<16 * 12 * 3]
        let dark = stride(from: row.startIndex, to: row.endIndex, by: 3).map { row[$0] }
        #expect(dark == [255, 255, 255, 255, 255, 0, 0, 255, 255, 255, 255, 255])
    }
}
