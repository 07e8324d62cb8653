internal import Foundation

/// Rows of text in columns: the first to the left, the others to the right.
enum TextTable {
    /// - Parameter rows: of as many cells each.
    /// - Returns: a line for each.
    static func lines(_ rows: [[String]]) -> [String] {
        let columns = rows.first?.indices ?? 0..<0
        let widths = columns.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            zip(row, widths).enumerated().map { column, cell in
                let padding = String(repeating: " ", count: cell.1 - cell.0.count)
                return column == 0 ? cell.0 + padding : padding + cell.0
            }
            .joined(separator: "  ").trimmingCharacters(in: .whitespaces)
        }
    }
}
