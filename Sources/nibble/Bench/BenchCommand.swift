internal import ArgumentParser
internal import Foundation
internal import NibbleTensors

/// `nibble bench`: how fast the parts of the engine are, beside what the machine could do at most.
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure the engine beside the machine's own limit.",
        discussion: """
            Speeds are billions of multiply-adds a second (gmacs). The limit is what a loop of nothing but independent \
            multiply-adds reaches on the same threads in the same run.
            """,
        subcommands: [
            BenchLinear.self, BenchAttention.self, BenchStep.self, BenchPicture.self, BenchLoad.self,
        ])
}

/// What every benchmark takes.
struct BenchOptions: ParsableArguments {
    @Option(help: "Threads. Default: one for each core.")
    var threads: Int?

    @Option(help: "Runs that are measured; the best one counts.")
    var runs: Int = 5

    @Option(help: "Runs before those that are measured.")
    var warmup: Int = 2

    @Flag(help: "Print one JSON object.")
    var json = false

    mutating func validate() throws {
        try checkSize("--threads", threads ?? 1, 1...1024)
        try checkSize("--runs", runs, 1...1_000_000)
        try checkSize("--warmup", warmup, 0...1_000_000)
    }
}

/// Refuses a number out of its range.
func checkSize(_ option: String, _ value: Int, _ range: ClosedRange<Int>) throws {
    guard range.contains(value) else {
        throw ValidationError("\(option): found \(value); expected \(range.lowerBound) to \(range.upperBound)")
    }
}

/// Refuses attention in bytes where it cannot be had.
func checkAttention(_ attention: AttentionPrecision?, _ precision: Precision) throws {
    guard attention != .int8 || (precision == .bf16 && Compute.hasInt8Attention) else {
        throw ValidationError(
            "--attention: found int8 in \(precision) on \(InstructionSet.current); expected bf16, or int8 in bf16 on a "
                + "processor with VNNI or Arm's dot products")
    }
}

/// A benchmark's figures.
struct BenchReport: Encodable {
    /// What was measured, for people.
    let name: String
    let instructionSet: String
    let threads: Int
    /// What is multiplied: `f32`, `bf16`, `int8`.
    let precision: String
    /// Multiply-adds of one run.
    let macs: Double
    /// Seconds of every measured run.
    let times: [Double]
    let seconds: Double
    let gmacs: Double
    /// The machine's limit for these operands on as many threads.
    let limitGmacs: Double
    let fraction: Double
    let peakRssBytes: Int
    let peakRssMib: Double
    /// Page faults of the measured runs.
    let pageFaults: Int

    /// Measures `work`.
    ///
    /// - Parameters:
    ///   - name: what is measured, for people.
    ///   - macs: multiply-adds of one run.
    ///   - compute: what `work` computes with.
    ///   - options: how often.
    ///   - operand: whose limit counts; nil: that of the precision.
    ///   - work: one run.
    ///   - afterwards: what follows each measured run, and is not measured.
    /// - Throws: what `work` throws, and `CancellationError` between runs.
    init(
        _ name: String, macs: Double, on compute: Compute, _ options: BenchOptions,
        operand: MachineLimits.Operand? = nil, work: () throws -> Void, afterwards: () throws -> Void = {}
    ) throws {
        for _ in 0..<options.warmup {
            try Task.checkCancellation()
            try work()
        }
        var faults = 0
        var times: [Double] = []
        for _ in 0..<options.runs {
            try Task.checkCancellation()
            let faultsBefore = ProcessMemory.minorFaults
            let began = ContinuousClock.now
            try work()
            times.append(began.duration(to: .now) / .seconds(1))
            faults += ProcessMemory.minorFaults - faultsBefore
            try afterwards()
        }
        pageFaults = faults
        self.name = name
        self.macs = macs
        self.times = times
        instructionSet = InstructionSet.current.description
        threads = compute.pool.threadCount
        seconds = times.min() ?? 0
        let speed = Speed(
            macs: macs, seconds: seconds, precision: compute.precision, operand: operand, on: compute.pool)
        precision = speed.precision
        gmacs = speed.gmacs
        limitGmacs = speed.limitGmacs
        fraction = speed.fraction
        peakRssBytes = ProcessMemory.peakBytes
        peakRssMib = Double(peakRssBytes) / 0x1p20
    }

    /// Prints the figures as the options ask for.
    func print(json: Bool) throws {
        if json { return try printJSON(self) }
        Swift.print(
            "\(name): " + String(format: "%.2f ms, %.0f G multiply-adds a second, ", seconds * 1e3, gmacs)
                + Speed.share(gmacs, of: limitGmacs, precision)
                + String(format: ", peak memory %.0f MiB, ", peakRssMib) + "\(threads) threads, \(instructionSet)")
    }
}

/// A speed beside the machine's limit.
struct Speed {
    /// What is multiplied: `f32`, `bf16`, `int8`.
    let precision: String
    let gmacs: Double
    /// 0 where the instruction set has no such multiply-adds.
    let limitGmacs: Double
    let fraction: Double

    /// Measures the limit.
    ///
    /// - Parameters:
    ///   - macs: multiply-adds.
    ///   - seconds: how long they took.
    ///   - numbers: that networks compute in.
    ///   - operand: whose limit counts; nil: that of the numbers.
    ///   - pool: the threads.
    init(
        macs: Double, seconds: Double, precision numbers: Precision, operand: MachineLimits.Operand?,
        on pool: ThreadPool
    ) {
        precision = operand == .int8 ? "int8" : numbers.rawValue
        gmacs = macs / seconds * 1e-9
        let limit = MachineLimits.rate(of: operand ?? (numbers == .bf16 ? .bfloat16 : .float32), on: pool)
        limitGmacs = (limit?.allThreads ?? 0) * 1e-9
        fraction = limitGmacs > 0 ? gmacs / limitGmacs : 0
    }

    /// A speed beside a limit in words.
    static func share(_ gmacs: Double, of limitGmacs: Double, _ precision: String) -> String {
        limitGmacs > 0
            ? String(format: "%.0f %% of the %@ limit of %.0f", gmacs / limitGmacs * 100, precision, limitGmacs)
            : "this processor has no \(precision) multiply-adds"
    }
}
