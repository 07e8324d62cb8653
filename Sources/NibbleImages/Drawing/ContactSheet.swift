/// Pictures side by side in rows and columns with labels, as one picture.
public struct ContactSheet: Sendable {
    /// What stands above a column.
    public struct Column: Sendable {
        /// What the column shows.
        public let title: String
        /// Lines below, in gray.
        public let notes: [String]

        /// See the properties.
        public init(title: String, notes: [String] = []) { (self.title, self.notes) = (title, notes) }
    }

    /// A picture and the line below it.
    public struct Cell: Sendable {
        /// The picture, of any size.
        public let bitmap: Bitmap
        /// The line below it; may be empty.
        public let caption: String

        /// A picture, brought to the size at which a sheet shows it.
        public init(_ bitmap: Bitmap, caption: String = "") {
            self.bitmap = bitmap.thumbnail(side: ContactSheet.side)
            self.caption = caption
        }

        private init(thumbnail: Bitmap, caption: String) { (bitmap, self.caption) = (thumbnail, caption) }

        /// The same picture with another line below it.
        public func captioned(_ caption: String) -> Cell { Cell(thumbnail: bitmap, caption: caption) }
    }

    /// Pictures beside each other.
    public struct Row: Sendable {
        /// What the row shows: stands left of the pictures.
        public let title: String
        /// The pictures, one for each column.
        public let cells: [Cell]

        /// See the properties.
        public init(title: String, cells: [Cell]) { (self.title, self.cells) = (title, cells) }
    }

    /// The longer side of a picture on a sheet, about: see `Bitmap.thumbnail`.
    public static let side = 256

    /// Stands above all.
    public let title: String
    /// A line below the title.
    public let subtitle: String
    /// From left to right.
    public let columns: [Column]
    /// From top to bottom.
    public let rows: [Row]

    /// See the properties.
    public init(title: String, subtitle: String = "", columns: [Column], rows: [Row]) {
        (self.title, self.subtitle, self.columns, self.rows) = (title, subtitle, columns, rows)
    }

    /// Draws the sheet.
    public func bitmap() -> Bitmap {
        let layout = Layout(self)
        var canvas = Canvas(width: layout.width, height: layout.height, color: Style.paper)
        drawHead(layout, on: &canvas)
        for row in rows.indices { draw(row, layout, on: &canvas) }
        return canvas.bitmap
    }

    private func drawHead(_ layout: Layout, on canvas: inout Canvas) {
        var baseline = Style.margin
        for line in layout.title {
            baseline += Style.title.lineHeight
            canvas.write(line, x: Style.margin, baseline: baseline - 2 * Style.descent, Style.title)
        }
        for line in layout.subtitle {
            baseline += Style.note.lineHeight
            canvas.write(line, x: Style.margin, baseline: baseline - Style.descent, Style.note)
        }
        for (index, head) in layout.heads.enumerated() {
            var baseline = layout.headTop
            for (line, style) in head {
                baseline += style.lineHeight
                canvas.write(line, x: layout.columnLeft(index), baseline: baseline - Style.descent, style)
            }
        }
    }

    private func draw(_ row: Int, _ layout: Layout, on canvas: inout Canvas) {
        let top = layout.pictureTop(row)
        let separator = top - Style.gap
        canvas.fill(Style.margin..<layout.width - Style.margin, separator..<separator + 1, Style.line)
        let limit = max(1, layout.cellHeight / Style.label.lineHeight)
        for (index, line) in Style.label.lines(rows[row].title, width: Style.labelWidth, limit: limit).enumerated() {
            // The first line's capitals begin where the pictures do.
            let baseline = top + Int(Style.label.size) + index * Style.label.lineHeight
            canvas.write(line, x: Style.margin, baseline: baseline, Style.label)
        }
        for (column, cell) in rows[row].cells.prefix(columns.count).enumerated() {
            let left = layout.columnLeft(column)
            let (width, height) = (cell.bitmap.width, cell.bitmap.height)
            // Many pictures are white at their edges, as the sheet is.
            canvas.fill(left - 1..<left + width + 1, top - 1..<top + height + 1, Style.line)
            canvas.draw(cell.bitmap, x: left, y: top)
            let caption = Style.caption.lines(cell.caption, width: layout.columnWidth, limit: 1).first ?? ""
            canvas.write(
                caption, x: left, baseline: top + layout.cellHeight + Style.caption.lineHeight, Style.caption)
        }
    }
}

/// Sizes in pixels, and colors.
private enum Style {
    static let paper = Color(255, 255, 255)
    static let line = Color(226, 226, 230)
    private static let ink = Color(34, 34, 38)
    private static let gray = Color(110, 110, 118)

    static let title = TextStyle(size: 17, weight: 1.9, color: ink)
    static let columnTitle = TextStyle(size: 12, weight: 1.5, color: ink)
    static let label = TextStyle(size: 12, weight: 1.35, color: ink)
    static let caption = TextStyle(size: 10, weight: 1.2, color: ink)
    static let note = TextStyle(size: 10, weight: 1.15, color: gray)

    static let margin = 28
    static let gap = 20
    static let labelWidth = 150
    /// Columns of narrow pictures are wider, for their titles' sake.
    static let leastColumnWidth = 200
    /// What letters such as g have below the line, and some air.
    static let descent = 5
}

extension ContactSheet {
    /// Where everything lies, in pixels.
    struct Layout {
        let width, height: Int
        /// The size of the largest picture.
        let cellHeight, columnWidth: Int
        fileprivate let title, subtitle: [String]
        fileprivate let heads: [[(line: String, style: TextStyle)]]
        fileprivate let headTop: Int
        private let firstRow, rowHeight: Int

        init(_ sheet: ContactSheet) {
            let bitmaps = sheet.rows.flatMap { $0.cells.map(\.bitmap) }
            let columnWidth = max(Style.leastColumnWidth, bitmaps.map(\.width).max() ?? 0)
            self.columnWidth = columnWidth
            cellHeight = bitmaps.map(\.height).max() ?? 0
            let left = Style.margin + Style.labelWidth + Style.gap
            width = left + max(1, sheet.columns.count) * (columnWidth + Style.gap) - Style.gap + Style.margin
            let inner = width - 2 * Style.margin
            title = Style.title.lines(sheet.title, width: inner, limit: 2)
            subtitle = Style.note.lines(sheet.subtitle, width: inner, limit: 2)
            heads = sheet.columns.map { column in
                Style.columnTitle.lines(column.title, width: columnWidth, limit: 2).map { ($0, Style.columnTitle) }
                    + column.notes.flatMap { Style.note.lines($0, width: columnWidth, limit: 2) }
                    .map { ($0, Style.note) }
            }
            headTop =
                Style.margin + title.count * Style.title.lineHeight + subtitle.count * Style.note.lineHeight
                + Style.gap
            let headHeight = heads.map { $0.reduce(0) { $0 + $1.style.lineHeight } }.max() ?? 0
            firstRow = headTop + headHeight + Style.gap + Style.gap / 2
            // A caption's line, and as much air below as above.
            rowHeight = cellHeight + Style.caption.lineHeight + Style.descent + 2 * Style.gap
            height = firstRow + sheet.rows.count * rowHeight - 2 * Style.gap + Style.margin
        }

        /// The left edge of a column's pictures.
        func columnLeft(_ column: Int) -> Int {
            Style.margin + Style.labelWidth + Style.gap + column * (columnWidth + Style.gap)
        }

        /// The upper edge of a row's pictures.
        func pictureTop(_ row: Int) -> Int { firstRow + row * rowHeight }
    }
}
