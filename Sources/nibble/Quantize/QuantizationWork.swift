internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleQuantizer
internal import NibbleTensors

/// A quantization from its journal's beginning to the file.
struct QuantizationWork {
    private let output: String
    private let order: QuantizationOrder
    private let subject: any QuantizationSubject
    private let journal: QuantizationJournal

    /// Opens the journal.
    init(output: String, _ order: QuantizationOrder, _ subject: any QuantizationSubject) throws {
        self.output = output
        self.order = order
        self.subject = subject
        var arguments = order.recipe.arguments.merging(subject.arguments) { $1 }
        if order.recipe.isCalibrated {
            arguments["prompts"] = order.prompts.joined(separator: "\n")
            arguments["precision"] = order.precision.rawValue
        }
        // Floats differ in their last bits between instruction sets, and a bit can turn a code.
        arguments["instruction set"] = InstructionSet.current.description
        journal = try QuantizationJournal(output + ".journal", arguments: arguments)
    }

    /// Does a share of the work, and puts the file together if nothing is missing then.
    func run(share: ShareOptions, report: ReportOptions) async throws {
        let started = ContinuousClock.now
        let line = QuantizationLine(isQuiet: report.quiet)
        defer { line.clear() }
        let count = subject.blockCount
        let blocks = try share.chosen(of: count)
        let missing = blocks.filter { !journal.contains($0) }
        if !missing.isEmpty, missing.count < blocks.count {
            line.say("going on: \(blocks.count - missing.count) of \(blocks.count) blocks are done already")
        }
        let (network, write) = try await subject.open(journal, isShown: !missing.isEmpty, line)
        let quantize = BlockQuantizer(
            network, recipe: order.recipe, journal: journal, precision: order.precision,
            pool: ThreadPool(threadCount: order.threads), memoryLimit: order.memoryLimit)
        try quantize(missing) { progress in
            try Task.checkCancellation()
            line.show(progress)
        }
        let left = (0..<count).filter { !journal.contains($0) }
        guard left.isEmpty || journal.isGone else {
            let numbers = left.prefix(12).map(String.init).joined(separator: ", ") + (left.count > 12 ? ", …" : "")
            line.say(
                "blocks \(numbers) are left to others; whoever finishes last writes \(output), and the same command "
                    + "without a share makes what is missing")
            return
        }
        var summary: QuantizationSummary?
        let isOurs = try journal.finish {
            // Put together where a process that is killed leaves nothing behind that the next run does not take away.
            let whole = journal.folder + "/whole.safetensors"
            try write(whole)
            try publish(whole)
            summary = QuantizationSummary(
                try journal.report(of: 0..<count), output: output,
                seconds: (ContinuousClock.now - started) / .seconds(1))
            try summary?.write(besides: output)
            journal.remove()
        }
        guard isOurs, let summary else { return line.say("another process has put \(output) together") }
        line.clear()
        try report.json ? printJSON(summary) : summary.print(isQuiet: report.quiet)
    }

    /// Puts the whole in the output's place, in the form that was asked for.
    private func publish(_ whole: String) throws {
        let pool = ThreadPool(threadCount: order.threads)
        var finished = whole
        switch order.form {
        case subject.form: break
        case .nunchakuLite:
            return try Checkpoint.openInt4(whole).writeLite(to: output, on: pool) { _, _ in
                try Task.checkCancellation()
            }
        case .nibble, .nunchaku:
            finished = journal.folder + "/converted.safetensors"
            try Checkpoint.openInt4(whole).writeNibble(to: finished, on: pool) { _, _ in
                try Task.checkCancellation()
            }
        }
        guard rename(finished, output) == 0 else {
            throw InputError(output, "cannot be written: \(String(cString: strerror(errno)))")
        }
    }
}
