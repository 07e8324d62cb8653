/// The extents of a tensor, outermost first.
public struct Shape: Sendable, Hashable, ExpressibleByArrayLiteral, CustomStringConvertible {
    /// The extents, none negative.
    public let dimensions: [Int]

    /// A shape of the given extents.
    public init(_ dimensions: [Int]) {
        precondition(dimensions.allSatisfy { $0 >= 0 }, "negative extent in \(dimensions)")
        self.dimensions = dimensions
    }

    /// A shape written as a list of its extents.
    public init(arrayLiteral elements: Int...) { self.init(elements) }

    /// The number of axes.
    public var rank: Int { dimensions.count }

    /// The product of the extents.
    public var elementCount: Int { dimensions.reduce(1, *) }

    /// The extent of an axis.
    public subscript(axis: Int) -> Int { dimensions[axis] }

    /// The extents in brackets, as "[16, 64]".
    public var description: String { "[\(dimensions.map(String.init).joined(separator: ", "))]" }
}
