internal import Foundation
internal import NibbleTensors

/// What `nibble profile` prints.
struct ProfileReport: Encodable {
    /// All calls of one operation in a step.
    struct Operation: Encodable {
        let name: String
        let calls: Int
        let seconds: Double
        /// Of the step's time.
        let share: Double
        /// The part of its time, of all threads together, in which they worked; the rest is waking and waiting.
        let busy: Double
        /// Multiply-adds; nil where an operation is not counted by them, and so are those that follow.
        let macs: Int?
        let gmacs: Double?
        /// Of the machine's limit.
        let fraction: Double?
    }

    /// Of the same runs.
    let figures: BenchReport
    /// Of the fastest run, longest first.
    let operations: [Operation]
    let betweenSeconds: Double
    let betweenShare: Double

    init(_ figures: BenchReport, _ profile: Profile) {
        self.figures = figures
        operations = profile.operations.map { operation in
            let gmacs =
                operation.multiplyAdds > 0 ? Double(operation.multiplyAdds) / operation.seconds * 1e-9 : nil
            return Operation(
                name: operation.name, calls: operation.calls, seconds: operation.seconds,
                share: operation.seconds / profile.seconds,
                busy: operation.workedSeconds / (operation.seconds * Double(figures.threads)),
                macs: gmacs.map { _ in operation.multiplyAdds }, gmacs: gmacs,
                fraction: figures.limitGmacs > 0 ? gmacs.map { $0 / figures.limitGmacs } : nil)
        }
        betweenSeconds = profile.betweenSeconds
        betweenShare = profile.betweenSeconds / profile.seconds
    }

    private enum CodingKeys: String, CodingKey { case operations, betweenSeconds, betweenShare }

    func encode(to encoder: any Encoder) throws {
        try figures.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(operations, forKey: .operations)
        try container.encode(betweenSeconds, forKey: .betweenSeconds)
        try container.encode(betweenShare, forKey: .betweenShare)
    }

    /// Prints the figures as the options ask for.
    func print(json: Bool) throws {
        if json { return try printJSON(self) }
        try figures.print(json: false)
        Swift.print(TextTable.lines([head] + operations.map(row) + [lastRow]).joined(separator: "\n"))
    }

    private var head: [String] {
        [
            "operation", "calls", "ms", "share", "busy", "G multiply-adds", "a second",
            "of the \(figures.precision) limit",
        ]
    }

    private func row(_ operation: Operation) -> [String] {
        [
            operation.name, "\(operation.calls)", String(format: "%.2f", operation.seconds * 1e3),
            Self.percent(operation.share), String(format: "%.0f %%", operation.busy * 100),
            operation.macs.map { String(format: "%.2f", Double($0) * 1e-9) } ?? "",
            operation.gmacs.map { String(format: "%.0f", $0) } ?? "",
            operation.fraction.map { String(format: "%.0f %%", $0 * 100) } ?? "",
        ]
    }

    /// What no operation covers: views are made, workers wait for what comes next.
    private var lastRow: [String] {
        [
            "between operations", "", String(format: "%.2f", betweenSeconds * 1e3), Self.percent(betweenShare), "", "",
            "", "",
        ]
    }

    private static func percent(_ share: Double) -> String { String(format: "%.1f %%", share * 100) }
}
