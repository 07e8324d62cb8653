import Foundation
import NibbleTensors
import Testing

/// Profiles and traces. How long something takes is left to chance; that the times fit into each other is not.
@Suite struct RecordingTests {
    /// Two blocks of a few operations, recorded.
    private static func record(threads: Int) -> SpanRecorder {
        let recorder = SpanRecorder(workerCount: threads)
        let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: threads, recorder: recorder))
        let (x, w) = (Tensor(zeros: [600, 64], .float32), Tensor(zeros: [800, 64], .float32))
        let y = Tensor(zeros: [600, 800], .float32)
        compute.measured("step", kind: .stage) {
            for block in 0..<2 {
                compute.measured("block", block, kind: .stage) {
                    compute.product(x, w, bias: nil, into: y)
                    compute.layerNorm(y, gain: nil, offset: nil, epsilon: 1e-6, into: y)
                    // An operation inside of another one, whose time must not count twice.
                    compute.measured("outer") { compute.add(y, to: y) }
                }
            }
        }
        return recorder
    }

    @Test(arguments: [1, 3])
    func `operations and what lies between them add up to the whole`(_ threads: Int) throws {
        let recorder = Self.record(threads: threads)
        let profile = Profile(recorder)
        #expect(recorder.lostCount == 0)
        let operations = profile.operations
        #expect(Set(operations.map(\.name)) == ["product", "layer norm", "outer", "gated add"])
        #expect(operations.map(\.seconds) == operations.map(\.seconds).sorted(by: >))
        let sum = operations.reduce(profile.betweenSeconds) { $0 + $1.seconds }
        // Each summand is rounded to a double: 1e-12 of the whole is a thousand times more.
        #expect(profile.seconds > 0 && abs(sum - profile.seconds) <= 1e-12 * profile.seconds)
        #expect(profile.betweenSeconds >= 0)
        for operation in operations {
            #expect(operation.calls == 2 && operation.seconds >= 0, "\(operation.name)")
            // A part lies inside of its operation, on one of the threads. "outer" has no parts of its own.
            #expect(operation.workedSeconds <= operation.seconds * Double(threads) * (1 + 1e-9), "\(operation.name)")
            #expect((operation.workedSeconds > 0) == (operation.name != "outer"), "\(operation.name)")
            #expect(operation.multiplyAdds == (operation.name == "product" ? 2 * 600 * 64 * 800 : 0))
        }
    }

    @Test func `what was forgotten does not come back`() {
        let recorder = Self.record(threads: 2)
        recorder.removeAll()
        #expect(recorder.spans(of: 0).isEmpty && recorder.spans(of: 1).isEmpty)
        let profile = Profile(recorder)
        #expect(profile.seconds == 0 && profile.operations.isEmpty && profile.betweenSeconds == 0)
    }

    @Test func `without a recorder nothing but the work is done`() throws {
        let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: 1))
        #expect(compute.pool.recorder == nil && compute.measured("work") { 7 } == 7)
        #expect(throws: CancellationError.self) { try compute.measured("work") { throw CancellationError() } }
    }

    /// The Trace Event Format's rules: an object with `traceEvents`; complete events with `ts` and `dur` in microseconds;
    /// on one track two of them are apart, or one contains the other.
    @Test(arguments: [1, 3])
    func `a trace has a track for each thread, on which spans nest`(_ threads: Int) throws {
        let recorder = Self.record(threads: threads)
        let data = try JSONEncoder().encode(TraceEvents(recorder, title: "a test"))
        let trace = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(trace["displayTimeUnit"] as? String == "ns")
        let events = try #require(trace["traceEvents"] as? [[String: Any]])
        let names = events.filter { $0["ph"] as? String == "M" && $0["name"] as? String == "thread_name" }
        #expect(names.count == threads && Set(names.compactMap { $0["tid"] as? Int }) == Set(0..<threads))
        let spans = events.filter { $0["ph"] as? String == "X" }
        #expect(spans.count + names.count + 1 == events.count)
        #expect(spans.count == (0..<threads).reduce(0) { $0 + recorder.spans(of: $1).count })
        #expect(spans.filter { $0["cat"] as? String == "stage" }.count == 3)
        #expect(Set(spans.compactMap { $0["name"] as? String }).isSuperset(of: ["step", "block", "product"]))
        for track in 0..<threads { try expectNesting(spans.filter { $0["tid"] as? Int == track }) }
    }

    private func expectNesting(_ spans: [[String: Any]]) throws {
        // Back to whole nanoseconds, which the fractions of microseconds stand for.
        let ranges = try spans.map { span in
            let start = Int((try #require(span["ts"] as? Double) * 1000).rounded())
            return start...start + Int((try #require(span["dur"] as? Double) * 1000).rounded())
        }
        var open: [ClosedRange<Int>] = []
        for range in ranges.sorted(by: { ($0.lowerBound, -$0.upperBound) < ($1.lowerBound, -$1.upperBound) }) {
            #expect(range.lowerBound >= 0)
            while let last = open.last, last.upperBound <= range.lowerBound, last != range { open.removeLast() }
            if let last = open.last { #expect(range.upperBound <= last.upperBound, "\(range) and \(last)") }
            open.append(range)
        }
    }
}
