internal import CNibbleKernels

/// What this machine can do at most, measured: every speed is told as a fraction of a limit of the same run, since
/// machines differ by several times, and one machine by the hour.
public struct MachineLimits: Sendable {
    /// The operands of a multiply-add.
    public enum Operand: Sendable, CaseIterable {
        /// Bytes, summed in 32 bits.
        case int8
        /// bfloat16, summed in 32 bits.
        case bfloat16
        /// 32-bit floats.
        case float32

        fileprivate var kernelLimit: nibble_limit {
            switch self {
            case .int8: NIBBLE_LIMIT_INT8
            case .bfloat16: NIBBLE_LIMIT_BF16
            case .float32: NIBBLE_LIMIT_F32
            }
        }
    }

    /// Multiply-adds a second.
    public struct Rate: Sendable, Equatable {
        /// Of one thread, while the others rest.
        public let oneThread: Double
        /// Of all threads together.
        public let allThreads: Double

        /// A rate of known numbers.
        public init(oneThread: Double, allThreads: Double) {
            self.oneThread = oneThread
            self.allThreads = allThreads
        }
    }

    /// Of each type of operands; those that the instruction set does not multiply are missing.
    public let multiplyAdds: [Operand: Rate]
    /// Bytes a second that all threads together read from memory.
    public let memoryBandwidth: Double

    /// Limits of known numbers.
    public init(multiplyAdds: [Operand: Rate], memoryBandwidth: Double) {
        self.multiplyAdds = multiplyAdds
        self.memoryBandwidth = memoryBandwidth
    }

    /// Measures everything; takes some seconds.
    ///
    /// - Parameter pool: the threads, otherwise idle.
    /// - Returns: the limits right now.
    public static func measure(on pool: ThreadPool) -> MachineLimits {
        let rates = Operand.allCases.map { ($0, rate(of: $0, on: pool)) }
        return MachineLimits(
            multiplyAdds: Dictionary(uniqueKeysWithValues: rates).compactMapValues { $0 },
            memoryBandwidth: memoryBandwidth(on: pool))
    }

    /// Measures how many multiply-adds a loop without dependences does, with the widest instruction of the instruction
    /// set in use.
    ///
    /// - Parameters:
    ///   - operand: what is multiplied.
    ///   - pool: the threads, otherwise idle.
    /// - Returns: the best of several short runs; nil where the instruction set has no such instruction.
    public static func rate(of operand: Operand, on pool: ThreadPool) -> Rate? {
        let isa = InstructionSet.current.isa
        let limit = operand.kernelLimit
        guard nibble_run_limit(isa, limit, 1) > 0 else { return nil }
        // Iterations that take as long as a run shall.
        var iterations: UInt64 = 1000
        var elapsed = 0.0
        while elapsed < runSeconds {
            iterations *= elapsed > runSeconds / 8 ? 2 : 4
            elapsed = seconds { _ = nibble_run_limit(isa, limit, iterations) }
        }
        let count = Double(nibble_run_limit(isa, limit, iterations))
        let chosen = iterations
        let oneThread = best { _ = nibble_run_limit(isa, limit, chosen) }
        let allThreads = best { pool.run(pool.threadCount) { _, _ in _ = nibble_run_limit(isa, limit, chosen) } }
        return Rate(oneThread: count / oneThread, allThreads: count * Double(pool.threadCount) / allThreads)
    }

    /// Measures how fast all threads together read memory: a buffer that no cache holds.
    ///
    /// - Parameter pool: the threads, otherwise idle.
    /// - Returns: bytes a second, the best of several passes.
    public static func memoryBandwidth(on pool: ThreadPool) -> Double {
        // 512 MiB are several times the last cache of most machines; a quarter of what is free where that is less.
        let wanted = min(512 << 20, Machine.current().availableMemoryBytes / 4)
        let parts = max(wanted / partBytes, 1)
        let buffer = Storage(byteCount: parts * partBytes)
        let results = Storage(byteCount: parts * MemoryLayout<UInt64>.stride)
        // Pages that were never written all stand for one page of zeros.
        pool.run(parts) { part, _ in
            (buffer.base + part * partBytes).initializeMemory(as: UInt8.self, repeating: 1, count: partBytes)
        }
        let elapsed = best {
            pool.run(parts) { part, _ in
                // The result is stored so that the reading cannot be left out.
                let folded = foldWords(buffer.base + part * partBytes, byteCount: partBytes)
                results.base.storeBytes(of: folded, toByteOffset: part * MemoryLayout<UInt64>.stride, as: UInt64.self)
            }
        }
        return Double(parts * partBytes) / elapsed
    }

    /// Long enough that waking a thread (some 0.1 ms) does not count, short enough to fit between two disturbances.
    private static let runSeconds = 0.04
    private static let runs = 5
    private static let partBytes = 4 << 20

    /// Exclusive or of all words; four chains, so that loads need not wait for each other.
    private static func foldWords(_ address: UnsafeRawPointer, byteCount: Int) -> UInt64 {
        typealias Line = SIMD8<UInt64>
        let size = MemoryLayout<Line>.stride
        var chains = (Line.zero, Line.zero, Line.zero, Line.zero)
        for offset in stride(from: 0, to: byteCount, by: 4 * size) {
            chains.0 ^= address.load(fromByteOffset: offset, as: Line.self)
            chains.1 ^= address.load(fromByteOffset: offset + size, as: Line.self)
            chains.2 ^= address.load(fromByteOffset: offset + 2 * size, as: Line.self)
            chains.3 ^= address.load(fromByteOffset: offset + 3 * size, as: Line.self)
        }
        let all = chains.0 ^ chains.1 ^ chains.2 ^ chains.3
        return all.indices.reduce(0) { $0 ^ all[$1] }
    }

    private static func best(_ body: () -> Void) -> Double {
        (0..<runs).map { _ in seconds(body) }.min() ?? .infinity
    }

    private static func seconds(_ body: () -> Void) -> Double { ContinuousClock().measure(body) / .seconds(1) }
}
