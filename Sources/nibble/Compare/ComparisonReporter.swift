internal import Foundation
internal import NibblePipelines

/// Shows the events of a comparison, and keeps what they bring.
struct ComparisonReporter {
    private let folder: ComparisonFolder
    private var sheet: ComparisonSheet
    private var progress: ProgressLine
    private var report: ComparisonReport?

    /// - Parameters:
    ///   - folder: where the files go.
    ///   - request: the pictures.
    ///   - title: stands above them on the sheet.
    ///   - isQuiet: nothing is shown.
    init(folder: ComparisonFolder, request: ComparisonRequest, title: String, isQuiet: Bool) {
        self.folder = folder
        sheet = ComparisonSheet(request, title: title)
        progress = ProgressLine(isQuiet: isQuiet)
    }

    mutating func handle(_ event: ComparisonEvent) throws {
        switch event {
        case .progress(let now):
            var text = "picture \(now.picture + 1)/\(now.pictures), \(now.transformer), "
            text += "step \(min(now.step + 1, now.steps))/\(now.steps)"
            if let left = now.secondsLeft, now.fraction < 1 { text += ", \(spoken(seconds: left)) left" }
            progress.show(now.fraction, text, isMilestone: !progress.isTerminal)
        case .picture(let compared):
            try folder.write(compared)
            sheet.add(compared)
        case .report(let now): report = now
        }
    }

    /// Ends the display of work that did not come to its end; report and sheet are those of the pictures that are done.
    mutating func abandon() throws {
        progress.clear()
        guard let report else { return folder.removeIfEmpty() }
        try write(report)
        progress.say("report and sheet in \(folder.path) are of the pictures that are done: \(report.pictures.count)")
    }

    /// Writes the report and the sheet, and prints the figures.
    mutating func finish(json: Bool) throws {
        progress.clear()
        guard let report else { return }
        try write(report)
        if json { try printJSON(report) } else { print(ComparisonTable(report)) }
        progress.say(folder.sheet)
    }

    private func write(_ report: ComparisonReport) throws {
        try folder.write(report)
        try folder.write(sheet.contactSheet(report))
    }
}
