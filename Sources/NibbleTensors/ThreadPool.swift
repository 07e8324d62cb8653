internal import CNibbleKernels
internal import Foundation
internal import Synchronization

/// Threads that share out the parts of one operation. The caller works too, so that one thread means no other thread at
/// all. Which worker gets which part is left to chance; a part's result must therefore not depend on it.
public final class ThreadPool: Sendable {
    /// The number of threads, the caller's included.
    public let threadCount: Int

    /// Remembers when each part was worked, for profiles; nil: nothing does.
    public let recorder: SpanRecorder?

    private let board = JobBoard()

    /// Starts the threads.
    ///
    /// - Parameters:
    ///   - threadCount: at least 1; nil: one for each core.
    ///   - recorder: of as many workers.
    public init(threadCount: Int? = nil, recorder: SpanRecorder? = nil) {
        let threadCount = threadCount ?? ProcessInfo.processInfo.activeProcessorCount
        precondition(threadCount >= 1)
        self.threadCount = threadCount
        precondition(recorder.map { $0.workerCount == threadCount } ?? true)
        self.recorder = recorder
        for worker in 1..<max(threadCount, 1) {
            let thread = Thread { [board] in
                var seen = 0
                while let job = board.nextJob(after: &seen) {
                    job.work(as: worker)
                    // Not to sleep while the others finish their last parts: the next job follows right after.
                    job.waitUntilFinished()
                }
            }
            thread.name = "nibble-\(worker)"
            thread.stackSize = 1 << 20
            thread.start()
        }
    }

    deinit { board.close() }

    /// Runs `body` for every part and returns when all are done. One call at a time.
    ///
    /// - Parameters:
    ///   - count: the number of parts; a few times the number of threads balances well.
    ///   - body: called with the part and the worker (`0..<threadCount`) that does it; two calls at once never get
    ///     the same worker.
    public func run(_ count: Int, _ body: @escaping @Sendable (_ part: Int, _ worker: Int) -> Void) {
        // `??` would allocate for functions that pass through it.
        let body = if let recorder { recorder.recording(body) } else { body }
        if threadCount == 1 || count <= 1 {
            for part in 0..<count { body(part, 0) }
            return
        }
        let job = Job(count: count, body: body)
        board.announce(job)
        job.work(as: 0)
        job.waitUntilFinished()
    }
}

/// A job's parts are taken one by one from `next`; it is over when `finished` has reached `count`.
private final class Job: Sendable {
    let count: Int
    let body: @Sendable (_ part: Int, _ worker: Int) -> Void
    let next = Atomic<Int>(0)
    let finished = Atomic<Int>(0)

    init(count: Int, body: @escaping @Sendable (Int, Int) -> Void) {
        self.count = count
        self.body = body
    }

    func work(as worker: Int) {
        while true {
            let part = next.add(1, ordering: .relaxed).oldValue
            guard part < count else { return }
            body(part, worker)
            finished.add(1, ordering: .acquiringAndReleasing)
        }
    }

    func waitUntilFinished() {
        var spins = 0
        while finished.load(ordering: .acquiring) < count {
            spins += 1
            if spins > JobBoard.spins { sched_yield() } else { nibble_pause() }
        }
    }
}

/// Where the caller puts a job and the workers look for one.
///
/// `@unchecked Sendable`: `current`, `generation` and `closed` are read and written under `condition`.
private final class JobBoard: @unchecked Sendable {
    /// A worker looks for the next job this many times before it sleeps: some 100 µs, longer than the gaps between the
    /// operations of a network, shorter than anything a person would call load.
    static let spins = 10_000

    private let condition = NSCondition()
    private var current: Job?
    private var generation = 0
    private var closed = false
    private let announced = Atomic<Int>(0)

    func announce(_ job: Job) {
        condition.lock()
        current = job
        generation += 1
        let generation = generation
        condition.broadcast()
        condition.unlock()
        // Now, since whoever looks for it takes the lock at once.
        announced.store(generation, ordering: .releasing)
    }

    func close() {
        condition.lock()
        closed = true
        current = nil
        announced.store(-1, ordering: .releasing)
        condition.broadcast()
        condition.unlock()
    }

    func nextJob(after seen: inout Int) -> Job? {
        for _ in 0..<Self.spins {
            if announced.load(ordering: .acquiring) != seen { break }
            nibble_pause()
        }
        condition.lock()
        defer { condition.unlock() }
        while !closed {
            if generation != seen, let job = current {
                seen = generation
                return job
            }
            condition.wait()
        }
        return nil
    }
}
