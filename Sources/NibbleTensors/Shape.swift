/// The extents of a tensor, outermost first.
///
/// Up to four of them lie in the shape itself: views are made for each part of each operation, and none of them shall
/// take memory of its own.
public struct Shape: Sendable, Hashable, ExpressibleByArrayLiteral, CustomStringConvertible {
    /// The number of axes.
    public let rank: Int
    /// The first extents; zeros where there are fewer.
    private var first = SIMD4<Int>.zero
    /// Those after the fourth.
    private let others: [Int]

    /// A shape of the given extents, none negative.
    public init(_ dimensions: some Collection<Int>) {
        precondition(dimensions.allSatisfy { $0 >= 0 }, "negative extent in \(Array(dimensions))")
        rank = dimensions.count
        others = rank > first.scalarCount ? Array(dimensions.dropFirst(first.scalarCount)) : []
        for (axis, extent) in dimensions.prefix(first.scalarCount).enumerated() { first[axis] = extent }
    }

    /// A shape written as a list of its extents.
    public init(arrayLiteral elements: Int...) { self.init(elements) }

    /// The shape of a matrix.
    init(_ rows: Int, by columns: Int) {
        precondition(rows >= 0 && columns >= 0, "negative extent in \(rows) by \(columns)")
        rank = 2
        first[0] = rows
        first[1] = columns
        others = []
    }

    /// The extents, none negative.
    public var dimensions: [Int] { (0..<rank).map { self[$0] } }

    /// The product of the extents.
    public var elementCount: Int { (0..<rank).reduce(1) { $0 * self[$1] } }

    /// The product of all extents but the first.
    var width: Int { rank == 0 ? 1 : (1..<rank).reduce(1) { $0 * self[$1] } }

    /// The same shape with another first extent; that of a scalar becomes one of one axis.
    func withRows(_ count: Int) -> Shape {
        precondition(count >= 0)
        guard rank > 0 else { return [count] }
        var shape = self
        shape.first[0] = count
        return shape
    }

    /// The extent of an axis.
    public subscript(axis: Int) -> Int {
        precondition(axis < rank)
        return axis < first.scalarCount ? first[axis] : others[axis - first.scalarCount]
    }

    /// The extents in brackets, as "[16, 64]".
    public var description: String { "[\(dimensions.map(String.init).joined(separator: ", "))]" }
}
