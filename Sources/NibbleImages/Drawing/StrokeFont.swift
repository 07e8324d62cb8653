internal import Foundation

/// A light font of strokes, for labels of any size without a font file: the middle line of a round pen.
enum StrokeFont {
    /// A point in the font's units; see `table`.
    struct Point: Equatable {
        var x, y: Double
    }

    /// A character's strokes as straight pieces.
    struct Glyph {
        let width: Double
        let pieces: [(from: Point, to: Point)]
    }

    /// The height of capitals in units.
    static let capHeight = 10.0
    /// Units between two glyphs: what makes a text of this pen's weight look evenly gray.
    private static let spacing = 2.3
    /// The narrow space of a sans serif: with the spacing on both sides a third of an em.
    private static let space = Glyph(width: 2, pieces: [])

    private static let glyphs: [Character: Glyph] = {
        var glyphs: [Character: Glyph] = [" ": space]
        for line in table.split(separator: "\n") {
            let fields = line.split(separator: " ", maxSplits: 2)
            guard fields.count == 3, let character = fields[0].first, let width = Double(fields[1]) else { continue }
            glyphs[character] = Glyph(width: width, pieces: pieces(fields[2]))
        }
        return glyphs
    }()

    /// What stands for a character that has no glyph: an empty box.
    private static let placeholder = Glyph(width: 5, pieces: pieces("M0 0 L0 8 L5 8 L5 0 L0 0"))

    /// The glyph of a character; of a letter with marks the letter's, and a box where there is none.
    static func glyph(_ character: Character) -> Glyph {
        if let glyph = glyphs[character] { return glyph }
        if character.isWhitespace { return space }
        let plain = String(character).folding(options: .diacriticInsensitive, locale: nil)
        return plain.first.flatMap { glyphs[$0] } ?? placeholder
    }

    /// The glyphs of a text, where each begins, in units.
    static func placed(_ text: String) -> [(glyph: Glyph, x: Double)] {
        var x = 0.0
        return text.map { character in
            let glyph = glyph(character)
            defer { x += glyph.width + spacing }
            return (glyph, x)
        }
    }

    /// The width of a text in units, from the first pen's middle to the last one's.
    static func width(of text: String) -> Double {
        placed(text).last.map { $0.x + $0.glyph.width } ?? 0
    }

    /// Breaks a text into lines.
    ///
    /// - Parameters:
    ///   - text: the text; its own line breaks count as spaces.
    ///   - width: of a line, in units.
    ///   - limit: the most lines, at least 1.
    /// - Returns: the lines; the last one ends with an ellipsis where there was more.
    static func lines(_ text: String, width: Double, limit: Int) -> [String] {
        var rest = Substring(text.split(whereSeparator: \.isWhitespace).joined(separator: " "))
        var lines: [String] = []
        while !rest.isEmpty, lines.count < limit {
            let isLast = lines.count == limit - 1
            let line = firstLine(rest, width: width)
            guard isLast, line.endIndex < rest.endIndex else {
                lines.append(line.trimmingCharacters(in: .whitespaces))
                rest = rest[line.endIndex...].drop { $0 == " " }
                continue
            }
            var shown = String(line)
            while !shown.isEmpty, Self.width(of: shown + "…") > width { shown.removeLast() }
            lines.append(shown.trimmingCharacters(in: .whitespaces) + "…")
            rest = ""
        }
        return lines
    }

    /// As much of a text as fits, up to the last space or after the last hyphen, underscore or slash; at least a
    /// character.
    private static func firstLine(_ text: Substring, width: Double) -> Substring {
        var x = 0.0
        var fitting = text.startIndex
        var breaking: Substring.Index?
        for index in text.indices {
            let character = text[index]
            let next = text.index(after: index)
            if character == " " { breaking = next }
            x += glyph(character).width
            if x > width, character != " " { break }
            x += spacing
            if "-_/".contains(character) { breaking = next }
            fitting = next
        }
        if fitting == text.endIndex { return text }
        return text[..<(breaking ?? max(fitting, text.index(after: text.startIndex)))]
    }

    // MARK: - Strokes

    /// Parses the strokes of a line of the table, and takes curves apart.
    private static func pieces(_ path: Substring) -> [(from: Point, to: Point)] {
        var pieces: [(from: Point, to: Point)] = []
        var pen = Point(x: 0, y: 0)
        var command: Character = "M"
        var numbers: [Double] = []
        for word in path.split(separator: " ") {
            var digits = word
            if let first = word.first, first.isLetter {
                command = first
                numbers = []
                digits = word.dropFirst()
            }
            numbers.append(Double(digits) ?? 0)
            guard numbers.count == (command == "Q" ? 4 : 2) else { continue }
            for point in points(command, from: pen, numbers) {
                if command != "M" { pieces.append((pen, point)) }
                pen = point
            }
        }
        return pieces
    }

    /// The points that a command leads through.
    private static func points(_ command: Character, from start: Point, _ numbers: [Double]) -> [Point] {
        let end = Point(x: numbers[numbers.count - 2], y: numbers[numbers.count - 1])
        guard "HVQ".contains(command) else { return [end] }
        // A chord of a twelfth of a quarter leaves the largest curve, O's, by 0.01 units.
        let count = 12
        return (1...count).map { index in
            let part = Double(index) / Double(count)
            if command == "Q" {
                let (before, middle, after) = ((1 - part) * (1 - part), 2 * part * (1 - part), part * part)
                return Point(
                    x: before * start.x + middle * numbers[0] + after * end.x,
                    y: before * start.y + middle * numbers[1] + after * end.y)
            }
            let (fast, slow) = (sin(part * .pi / 2), 1 - cos(part * .pi / 2))
            let (alongX, alongY) = command == "H" ? (fast, slow) : (slow, fast)
            return Point(x: start.x + (end.x - start.x) * alongX, y: start.y + (end.y - start.y) * alongY)
        }
    }
}
