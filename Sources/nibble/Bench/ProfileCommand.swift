internal import ArgumentParser
internal import Foundation
internal import NibbleModels
internal import NibbleTensors

/// `nibble profile`: where a step's time goes.
struct ProfileCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "profile",
        abstract: "Show where the time of a transformer's step goes.",
        usage: """
            nibble profile [options]
            nibble profile --transformer <path> [--inputs <folder>] [options]
            """,
        discussion: """
            A table of operations, longest first, of the fastest of several steps: calls, time, its share, how much of \
            that time all threads worked, and speed beside the machine's limit. Its last line is the time between \
            operations. The models are those of 'nibble bench step'. '--trace FILE' writes the same step as a trace with \
            a track for each thread, which ui.perfetto.dev opens.
            """)

    @OptionGroup(title: "Random weights") var random: RandomModelOptions
    @OptionGroup(title: "A model on given inputs") var given: GivenModelOptions
    @OptionGroup(title: "Numbers") var numbers: NumberOptions
    @Option(
        help: ArgumentHelp("Where to write a trace.", valueName: "file"), completion: .file(extensions: ["json"]))
    var trace: String?
    @OptionGroup(title: "Measurement") var options: BenchOptions

    func run() async throws {
        if let trace { try OutputFile.check(trace, example: "trace.json") }
        let threads = options.threads ?? Machine.current().coreCount
        let recorder = SpanRecorder(workerCount: threads)
        let model = try await StepModel(
            random, given, numbers, isQuiet: options.json,
            on: ThreadPool(threadCount: threads, recorder: recorder))
        let compute = model.compute
        let prediction = Tensor(zeros: [model.inputs.latents.rows, model.transformer.config.outChannels], .float32)
        var profile: Profile?
        var events: TraceEvents?
        let figures = try BenchReport(
            model.description, macs: model.multiplyAdds, on: compute, options, operand: model.operand
        ) {
            recorder.removeAll()
            try compute.measured("step", kind: .stage) {
                try model.transformer(model.inputs, into: prediction, residency: given.residency, on: compute) { _ in
                    try Task.checkCancellation()
                }
            }
        } afterwards: {
            guard recorder.lostCount == 0 else {
                throw ValidationError("a step of so many blocks has more parts than a profile holds; take fewer")
            }
            let present = Profile(recorder)
            guard present.seconds < profile?.seconds ?? .infinity else { return }
            profile = present
            events = trace == nil ? nil : TraceEvents(recorder, title: model.description)
        }
        if let trace, let events {
            try OutputFile.write(try JSONEncoder().encode(events), to: trace)
        }
        if let profile { try ProfileReport(figures, profile).print(json: options.json) }
    }
}
