/// What a recorder remembers, put in order: stages and operations of the calling thread, and the parts of all workers
/// with the operations that they belong to.
struct Timeline {
    /// A stage or an operation and its place among the others.
    struct Node {
        let span: Span
        /// The one that it happened in.
        let parent: Int?
    }

    /// By their beginnings, the outer before the inner.
    let nodes: [Node]
    /// Of each worker, its parts and the nodes that they belong to; nil for work that is no operation.
    let parts: [[(span: Span, node: Int?)]]

    init(_ recorder: SpanRecorder) {
        let all = (0..<recorder.workerCount).map { recorder.spans(of: $0) }
        nodes = Self.ordered(all.first?.filter { $0.kind != .part } ?? [])
        parts = all.map { [nodes] spans in
            spans.filter { $0.kind == .part }.map { ($0, Self.innermost(of: nodes, around: $0)) }
        }
    }

    /// Spans come in the order of their ends: of two that begin and end together, the later is the outer.
    private static func ordered(_ spans: [Span]) -> [Node] {
        let order = spans.indices.sorted { first, second in
            let (a, b) = (spans[first], spans[second])
            if a.began != b.began { return a.began < b.began }
            return a.ended != b.ended ? a.ended > b.ended : first > second
        }
        var nodes: [Node] = []
        var open: [Int] = []
        for span in order.map({ spans[$0] }) {
            while let last = open.last, nodes[last].span.ended < span.ended { open.removeLast() }
            nodes.append(Node(span: span, parent: open.last))
            open.append(nodes.count - 1)
        }
        return nodes
    }

    /// The last node to begin before a part, or the one around it that lasts until the part's end.
    private static func innermost(of nodes: [Node], around part: Span) -> Int? {
        var (low, high) = (0, nodes.count)
        while low < high {
            let middle = (low + high) / 2
            if nodes[middle].span.began <= part.began { low = middle + 1 } else { high = middle }
        }
        var candidate: Int? = low > 0 ? low - 1 : nil
        while let node = candidate, nodes[node].span.ended < part.ended { candidate = nodes[node].parent }
        return candidate
    }
}

extension Span {
    var duration: Duration { began.duration(to: ended) }
}
