internal import Foundation

/// What a recorder remembers, in the Trace Event Format (Google, "Trace Event Format", the JSON object form with events of
/// the types "complete" and "metadata"), which Perfetto and Chrome's tracing page open: one track for each thread.
public struct TraceEvents: Encodable, Sendable {
    /// A stretch of a track, or a track's name.
    private struct Event: Encodable {
        /// What the format knows an event's type by.
        enum Phase: String, Encodable { case complete = "X", metadata = "M" }

        let name: String
        let phase: Phase
        let category: String?
        /// Microseconds since the first span.
        let start, duration: Double?
        let process = 1
        let thread: Int
        let arguments: Arguments

        enum CodingKeys: String, CodingKey {
            case name, phase = "ph", category = "cat", start = "ts", duration = "dur", process = "pid", thread = "tid",
                arguments = "args"
        }
    }

    private struct Arguments: Encodable {
        var name: String?
        var index: Int?
        var multiplyAdds: Int?

        enum CodingKeys: String, CodingKey { case name, index, multiplyAdds = "multiply_adds" }
    }

    /// Otherwise readers round to microseconds, and parts would overlap.
    private let displayTimeUnit = "ns"
    private let traceEvents: [Event]

    private enum CodingKeys: String, CodingKey { case displayTimeUnit, traceEvents }

    /// What a recorder remembers. Only between operations.
    ///
    /// - Parameters:
    ///   - recorder: what is shown.
    ///   - title: of the whole, as the name of the process.
    public init(_ recorder: SpanRecorder, title: String) {
        let timeline = Timeline(recorder)
        let parts = timeline.parts.joined()
        let start = (timeline.nodes.map(\.span.began) + parts.map(\.span.began)).min() ?? .now
        func event(_ span: Span, _ name: String, _ category: String, thread: Int, _ arguments: Arguments) -> Event {
            let (first, last) = (start.duration(to: span.began).nanoseconds, start.duration(to: span.ended).nanoseconds)
            return Event(
                name: name, phase: .complete, category: category, start: Double(first) / 1000,
                duration: Double(last - first) / 1000, thread: thread, arguments: arguments)
        }
        func label(_ name: String, _ value: String, thread: Int) -> Event {
            Event(
                name: name, phase: .metadata, category: nil, start: nil, duration: nil, thread: thread,
                arguments: Arguments(name: value))
        }
        var events = [label("process_name", title, thread: 0)]
        for worker in timeline.parts.indices {
            events.append(label("thread_name", worker == 0 ? "caller" : "worker \(worker)", thread: worker))
        }
        for span in timeline.nodes.map(\.span) {
            let isStage = span.kind == .stage
            events.append(
                event(
                    span, span.name.description, isStage ? "stage" : "operation", thread: 0,
                    Arguments(
                        index: isStage ? span.index : nil,
                        multiplyAdds: span.multiplyAdds > 0 ? span.multiplyAdds : nil)))
        }
        for (worker, parts) in timeline.parts.enumerated() {
            for (span, node) in parts {
                let name = node.map { timeline.nodes[$0].span.name.description } ?? "part"
                events.append(event(span, name, "part", thread: worker, Arguments(index: span.index)))
            }
        }
        traceEvents = events
    }
}

extension Duration {
    fileprivate var nanoseconds: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}
