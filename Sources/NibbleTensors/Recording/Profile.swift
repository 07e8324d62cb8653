/// Where the time went, by operation.
public struct Profile: Sendable {
    /// All calls of one operation.
    public struct Operation: Sendable {
        /// Its name.
        public let name: String
        /// How often it was done.
        public internal(set) var calls = 0
        /// Seconds of the calling thread, without those of operations inside it.
        public internal(set) var seconds = 0.0
        /// Seconds that all threads together worked on its parts.
        public internal(set) var workedSeconds = 0.0
        /// Multiply-adds, where it is counted by them.
        public internal(set) var multiplyAdds = 0
    }

    /// Seconds of the outermost stages.
    public let seconds: Double
    /// Longest first.
    public let operations: [Operation]
    /// Seconds inside of stages and outside of operations.
    public let betweenSeconds: Double

    /// What a recorder remembers. Only between operations.
    public init(_ recorder: SpanRecorder) {
        let timeline = Timeline(recorder)
        var own = timeline.nodes.map { $0.span.duration }
        for node in timeline.nodes {
            if let parent = node.parent { own[parent] -= node.span.duration }
        }
        var operations: [String: Operation] = [:]
        var between = Duration.zero
        for (node, own) in zip(timeline.nodes, own) {
            guard node.span.kind == .operation else {
                between += own
                continue
            }
            let name = node.span.name.description
            operations[name, default: Operation(name: name)].calls += 1
            operations[name]?.seconds += own / .seconds(1)
            operations[name]?.multiplyAdds += node.span.multiplyAdds
        }
        for (part, node) in timeline.parts.joined() {
            guard let span = node.map({ timeline.nodes[$0].span }), span.kind == .operation else { continue }
            operations[span.name.description]?.workedSeconds += part.duration / .seconds(1)
        }
        let outermost = timeline.nodes.filter { $0.parent == nil }
        seconds = outermost.reduce(.zero) { $0 + $1.span.duration } / .seconds(1)
        self.operations = operations.values.sorted { $0.seconds > $1.seconds }
        betweenSeconds = between / .seconds(1)
    }
}
