/// A stretch of a thread's time, and what it was spent on.
public struct Span: Sendable {
    /// How spans contain each other: stages hold stages and operations, operations hold parts.
    public enum Kind: Sendable {
        /// A step or a block.
        case stage
        /// What `Compute` does at one go.
        case operation
        /// What one worker does of an operation.
        case part
    }

    /// What kind of span it is.
    public let kind: Kind
    /// What is done; empty for a part, which belongs to the operation of its time.
    public let name: StaticString
    /// Which block, which part.
    public let index: Int
    /// Multiply-adds of an operation that is counted by them.
    public let multiplyAdds: Int
    /// The first moment.
    public let began: ContinuousClock.Instant
    /// The last moment.
    public let ended: ContinuousClock.Instant
}

/// Remembers what a pool's threads spent their time on. Each worker writes into memory of its own, which nobody else
/// reads before the operation is over, so that no thread waits for another because of it.
public final class SpanRecorder: Sendable {
    /// Spans that a worker can remember: three times the parts of a step of FLUX.1-dev at 1024 × 1024 pixels. Memory
    /// that no span came to is never touched.
    private static let capacity = 1 << 19
    /// Before the spans, a line of the cache for their count.
    private static let headerBytes = 64
    private static let workerBytes = headerBytes + capacity * MemoryLayout<Span>.stride

    /// The number of workers.
    public let workerCount: Int
    private let storage: Storage

    /// A recorder that remembers nothing yet.
    ///
    /// - Parameter workerCount: the threads of the pool that it is for.
    public init(workerCount: Int) {
        self.workerCount = workerCount
        storage = Storage(byteCount: workerCount * Self.workerBytes)
    }

    /// All that a worker did, in the order of the ends. Only between operations.
    public func spans(of worker: Int) -> [Span] {
        let spans = UnsafePointer(address(of: worker, Span.self, offset: Self.headerBytes))
        return (0..<min(count(of: worker).pointee, Self.capacity)).map { spans[$0] }
    }

    /// Spans for which there was no room. Only between operations.
    public var lostCount: Int {
        (0..<workerCount).reduce(0) { $0 + max(0, count(of: $1).pointee - Self.capacity) }
    }

    /// Forgets everything. Only between operations.
    public func removeAll() {
        for worker in 0..<workerCount { count(of: worker).pointee = 0 }
    }

    /// Remembers a span; only the worker itself may call it.
    func append(_ span: Span, by worker: Int) {
        let count = count(of: worker)
        if count.pointee < Self.capacity {
            (address(of: worker, Span.self, offset: Self.headerBytes) + count.pointee).initialize(to: span)
        }
        count.pointee += 1
    }

    /// The body of an operation, which then remembers each part.
    func recording(
        _ body: @escaping @Sendable (_ part: Int, _ worker: Int) -> Void
    ) -> @Sendable (_ part: Int, _ worker: Int) -> Void {
        { part, worker in
            let began = ContinuousClock.now
            body(part, worker)
            let span = Span(kind: .part, name: "", index: part, multiplyAdds: 0, began: began, ended: .now)
            self.append(span, by: worker)
        }
    }

    private func count(of worker: Int) -> UnsafeMutablePointer<Int> { address(of: worker, Int.self, offset: 0) }

    private func address<Element>(of worker: Int, _: Element.Type, offset: Int) -> UnsafeMutablePointer<Element> {
        (storage.base + worker * Self.workerBytes + offset).assumingMemoryBound(to: Element.self)
    }
}

extension Compute {
    /// Does something, and remembers how long it took where the pool records; on the thread that the pool's operations
    /// are called from.
    ///
    /// - Parameters:
    ///   - name: what is done.
    ///   - index: which one of several, as a block's number.
    ///   - kind: a stage, or an operation.
    ///   - multiplyAdds: of the operation.
    ///   - body: what is to be done.
    /// - Returns: what the body returns.
    /// - Throws: what the body throws.
    @inline(__always)
    public func measured<Result>(
        _ name: StaticString, _ index: Int = 0, kind: Span.Kind = .operation, multiplyAdds: Int = 0,
        _ body: () throws -> Result
    ) rethrows -> Result {
        guard let recorder = pool.recorder else { return try body() }
        let began = ContinuousClock.now
        defer {
            recorder.append(
                Span(kind: kind, name: name, index: index, multiplyAdds: multiplyAdds, began: began, ended: .now),
                by: 0)
        }
        return try body()
    }

    /// Runs the parts of an operation on the pool; see `ThreadPool.run`.
    ///
    /// - Parameters:
    ///   - operation: its name in profiles.
    ///   - count: the number of parts.
    ///   - multiplyAdds: of all parts together.
    ///   - body: called with the part and the worker that does it.
    public func run(
        _ operation: StaticString, _ count: Int, multiplyAdds: Int = 0,
        _ body: @escaping @Sendable (_ part: Int, _ worker: Int) -> Void
    ) {
        measured(operation, multiplyAdds: multiplyAdds) { pool.run(count, body) }
    }
}
