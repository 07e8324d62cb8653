internal import ArgumentParser
internal import Foundation
internal import NibblePipelines
internal import NibbleTensors

/// `nibble bench picture`: one picture, from a closed model to a PNG.
struct BenchPicture: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "picture",
        abstract: "One picture: seconds and memory of each phase.",
        usage: "nibble bench picture [--model <folder or name>] [options]",
        discussion: """
            The picture of 'nibble generate', from the closed model to a PNG that is thrown away. The speed is that of the \
            best step. A model that was not read for a while comes from the disk first: run it twice.
            """)

    @Option(help: "What the picture shows.")
    var prompt = "red apple"
    @Option(help: "Steps. Default: 28, or 4 for models without guidance, such as FLUX.1-schnell.")
    var steps: Int?
    @Option(help: "Pixels, a multiple of 16. Default: what the model was made for.")
    var width: Int?
    @Option(help: "Pixels, a multiple of 16. Default: what the model was made for.")
    var height: Int?
    @Option(help: "Tokens of the second text encoder. Default: what the model was made for, at most 512.")
    var maxSequenceLength: Int?
    @OptionGroup(title: "Model and machine") var model: ModelOptions
    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        let request = FluxRequest(
            prompt: prompt, steps: steps, width: width, height: height, maxSequenceLength: maxSequenceLength)
        let (folder, options) = try await model.located(isQuiet: json)
        var clock = PhaseClock()
        clock.begin("opening")
        let pipeline = try FluxPipeline(model: folder, options: options)
        let macs = try pipeline.multiplyAddsPerStep(of: request)
        var times: [Double] = []
        var record: GenerationRecord?
        for try await event in pipeline(request) {
            switch event {
            case .stage(let stage): clock.begin(stage.benchName)
            case .progress(let now):
                // Only the end of a step tells of more steps than were told of before.
                if now.step > times.count { times.append(now.seconds - times.reduce(0, +)) }
            case .picture(let picture):
                clock.begin("png")
                record = picture.record
                try Self.writeAndRemove(picture)
            case .step, .denoised: break
            }
        }
        try Task.checkCancellation()
        clock.end()
        guard let record else { return }
        try PictureReport(
            record, clock, macs: macs, times: times, isQuantized: pipeline.isQuantized,
            pool: ThreadPool(threadCount: options.threads)
        ).print(json: json)
    }

    private static func writeAndRemove(_ picture: FluxPicture) throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "nibble-bench-\(UUID().uuidString).png")
        defer { try? FileManager.default.removeItem(at: file) }
        try picture.write(to: file.path)
    }
}

extension FluxEvent.Stage {
    /// Its name in figures.
    fileprivate var benchName: String {
        switch self {
        case .encodingText: "text_encoders"
        case .denoising: "denoising"
        case .decoding: "decoding"
        }
    }
}

/// Phases one after the other, and the memory that each takes.
struct PhaseClock {
    /// A part of the work.
    struct Phase: Encodable {
        let name: String
        let seconds: Double
        /// The most that was resident meanwhile; where the system cannot tell, the most since the process began.
        let peakRssBytes: Int
    }

    private(set) var phases: [Phase] = []
    private var current: (name: String, began: ContinuousClock.Instant)?

    /// Ends the present phase and begins the next.
    mutating func begin(_ name: String) {
        end()
        ProcessMemory.forgetPeak()
        current = (name, .now)
    }

    /// Ends the present phase.
    mutating func end() {
        guard let (name, began) = current else { return }
        let seconds = began.duration(to: .now) / .seconds(1)
        phases.append(Phase(name: name, seconds: seconds, peakRssBytes: ProcessMemory.peakBytes))
        current = nil
    }
}

/// What `nibble bench picture` prints.
private struct PictureReport: Encodable {
    let name: String
    let instructionSet: String
    let threads: Int
    let precision: String
    let phases: [PhaseClock.Phase]
    /// Of the whole.
    let seconds: Double
    /// Until the first step begins: opening and text encoders.
    let secondsToFirstStep: Double
    /// Of each step.
    let times: [Double]
    /// Of the best step; the speed is its.
    let secondsPerStep: Double
    /// Multiply-adds of a step.
    let macs: Double
    let gmacs: Double
    let limitGmacs: Double
    let fraction: Double
    let peakRssBytes: Int
    let peakRssMib: Double

    init(
        _ record: GenerationRecord, _ clock: PhaseClock, macs: Double, times: [Double], isQuantized: Bool,
        pool: ThreadPool
    ) {
        let speed = Speed(
            macs: macs, seconds: times.min() ?? .infinity, precision: record.precision,
            operand: isQuantized ? .int8 : nil, on: pool)
        name =
            "picture \(record.width) × \(record.height), \(record.steps) steps"
            + (record.activations.map { ", 4-bit transformer, \($0) activations" } ?? "")
        instructionSet = record.instructionSet
        threads = pool.threadCount
        precision = speed.precision
        phases = clock.phases
        seconds = phases.reduce(0) { $0 + $1.seconds }
        secondsToFirstStep = phases.prefix { $0.name != "denoising" }.reduce(0) { $0 + $1.seconds }
        self.times = times
        secondsPerStep = times.min() ?? 0
        self.macs = macs
        gmacs = speed.gmacs
        limitGmacs = speed.limitGmacs
        fraction = speed.fraction
        peakRssBytes = phases.map(\.peakRssBytes).max() ?? 0
        peakRssMib = Double(peakRssBytes) / 0x1p20
    }

    func print(json: Bool) throws {
        if json { return try printJSON(self) }
        Swift.print(
            "\(name): " + String(format: "%.2f s, peak memory %.0f MiB, ", seconds, peakRssMib)
                + "\(threads) threads, \(instructionSet)")
        let rows = phases.map { phase in
            [
                phase.name.replacing("_", with: " "), String(format: "%.3f s", phase.seconds),
                String(format: "%.0f MiB", Double(phase.peakRssBytes) / 0x1p20),
            ]
        }
        Swift.print(TextTable.lines([["phase", "time", "peak memory"]] + rows).joined(separator: "\n"))
        Swift.print(
            String(format: "best step %.3f s, %.0f G multiply-adds a second, ", secondsPerStep, gmacs)
                + Speed.share(gmacs, of: limitGmacs, precision))
    }
}
