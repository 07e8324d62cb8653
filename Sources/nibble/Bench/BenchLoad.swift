internal import ArgumentParser
internal import Foundation
internal import NibblePipelines
internal import NibbleTensors

/// `nibble bench load`: from nothing to a pipeline that is ready for a prompt.
struct BenchLoad: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Opening a model: until it is ready for a prompt.",
        usage: "nibble bench load [--model <folder or name>] [options]",
        discussion: """
            Reads configurations and tokenizers, maps the weights, and brings those of a 4-bit transformer into the order \
            of the kernels where they do not lie in it. The limit is how fast all threads read memory. The first run is the \
            only one of a new process; weights that are not in the system's cache come from the disk.
            """)

    @Option(help: "Runs, each with the model closed before; the best one counts.")
    var runs: Int = 3
    @OptionGroup(title: "Model and machine") var model: ModelOptions
    @Flag(help: "Print one JSON object.")
    var json = false

    mutating func validate() throws { try checkSize("--runs", runs, 1...1_000_000) }

    func run() async throws {
        let (folder, options) = try await model.located(isQuiet: json)
        var report = LoadReport(threads: options.threads ?? Machine.current().coreCount)
        for _ in 0..<runs {
            try Task.checkCancellation()
            let faults = ProcessMemory.minorFaults
            let began = ContinuousClock.now
            let pipeline = try FluxPipeline(model: folder, options: options)
            report.times.append(began.duration(to: .now) / .seconds(1))
            report.pageFaults.append(ProcessMemory.minorFaults - faults)
            report.mappedBytes = pipeline.mappedBytes
            report.ownedBytes = pipeline.ownedBytes
            report.residentBytes = ProcessMemory.residentBytes
        }
        report.finish()
        try report.print(json: json)
    }
}

/// What `nibble bench load` prints.
private struct LoadReport: Encodable {
    let instructionSet = InstructionSet.current.description
    let threads: Int
    /// Seconds and page faults of each run.
    var times: [Double] = []
    var pageFaults: [Int] = []
    /// Of the transformer's weights: in mapped files, and brought into memory of their own.
    var mappedBytes = 0
    var ownedBytes = 0
    /// Of the process, with the model open.
    var residentBytes: Int?
    var seconds = 0.0
    /// How fast weights were brought into order, beside how fast memory is read; nil where none were.
    var gbytesPerSecond: Double?
    var limitGbytesPerSecond = 0.0
    var fraction: Double?
    var peakRssBytes = 0
    var peakRssMib = 0.0

    init(threads: Int) { self.threads = threads }

    /// Fills in what follows from the runs, and measures the limit: last, since that takes memory itself.
    mutating func finish() {
        seconds = times.min() ?? 0
        peakRssBytes = ProcessMemory.peakBytes
        peakRssMib = Double(peakRssBytes) / 0x1p20
        limitGbytesPerSecond = MachineLimits.memoryBandwidth(on: ThreadPool(threadCount: threads)) * 1e-9
        guard ownedBytes > 0 else { return }
        gbytesPerSecond = Double(ownedBytes) / seconds * 1e-9
        fraction = gbytesPerSecond.map { $0 / limitGbytesPerSecond }
    }

    func print(json: Bool) throws {
        if json { return try printJSON(self) }
        let speed =
            gbytesPerSecond.map {
                String(
                    format: "%.1f GB a second, %.0f %% of the %.1f that are read from memory", $0,
                    (fraction ?? 0) * 100,
                    limitGbytesPerSecond)
            }
            ?? String(
                format: "nothing to bring into order; %.1f GB a second are read from memory", limitGbytesPerSecond)
        Swift.print(
            String(format: "open in %.3f s (first: %.3f s): ", seconds, times.first ?? 0)
                + "\(ByteCount(mappedBytes)) mapped, \(ByteCount(ownedBytes)) in memory of their own, \(speed)")
        Swift.print(
            "page faults \(pageFaults.map(String.init).joined(separator: ", ")), resident "
                + (residentBytes.map { "\(ByteCount($0))" } ?? "unknown")
                + String(format: ", peak memory %.0f MiB, ", peakRssMib) + "\(threads) threads, \(instructionSet)")
    }
}
