internal import Foundation

/// Progress on standard error: on a terminal one line that is written again and again, elsewhere a plain line now and
/// then, nothing where it is switched off.
struct ProgressLine {
    private enum Style { case none, plain, terminal(isColored: Bool) }

    private let style: Style
    private var isDirty = false
    private var lastPrinted: ContinuousClock.Instant?

    /// Seconds between two plain lines: a log of a picture of minutes stays readable.
    private static let plainInterval = Duration.seconds(10)
    /// A terminal is not written more often than a person can see.
    private static let terminalInterval = Duration.milliseconds(100)

    /// - Parameter isQuiet: nothing is written.
    init(isQuiet: Bool) {
        if isQuiet {
            style = .none
        } else if isatty(FileHandle.standardError.fileDescriptor) == 1 {
            let environment = ProcessInfo.processInfo.environment
            // https://no-color.org: any value that is not empty.
            let refused = environment["NO_COLOR"].map { !$0.isEmpty } ?? false
            style = .terminal(isColored: !refused && environment["TERM"] != "dumb")
        } else {
            style = .plain
        }
    }

    /// Whether a person sees the line move.
    var isTerminal: Bool { if case .terminal = style { true } else { false } }

    /// Shows a share of the whole and a text beside it.
    ///
    /// - Parameters:
    ///   - fraction: 0...1.
    ///   - text: what is being done, and how long it still takes.
    ///   - isMilestone: written as a plain line even when the last one was a moment ago.
    mutating func show(_ fraction: Double, _ text: String, isMilestone: Bool = false) {
        let now = ContinuousClock.now
        let elapsed = lastPrinted.map { $0.duration(to: now) }
        switch style {
        case .none: return
        case .plain:
            guard isMilestone, elapsed.map({ $0 >= Self.plainInterval }) ?? true || fraction >= 1 else { return }
            write("\(Int(fraction * 100))% \(text)\n")
        case .terminal(let isColored):
            guard isMilestone || elapsed.map({ $0 >= Self.terminalInterval }) ?? true else { return }
            let columns = Self.terminalColumns
            let width = min(24, columns / 3)
            let filled = min(width, Int(fraction * Double(width) + 0.5))
            let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
            let painted = isColored ? "\u{1b}[36m\(bar)\u{1b}[0m" : bar
            // A line that wraps could not be written again.
            let shown = "\(Int(fraction * 100))% \(text)".prefix(max(0, columns - width - 2))
            write("\r\u{1b}[2K\(painted) \(shown)")
            isDirty = true
        }
        lastPrinted = now
    }

    /// Writes a line that stays.
    mutating func say(_ text: String) {
        if case .none = style { return }
        clear()
        write(text + "\n")
    }

    /// Takes the bar off the terminal.
    mutating func clear() {
        if isDirty { write("\r\u{1b}[2K") }
        isDirty = false
    }

    /// Columns of the terminal; 80 where it does not tell.
    private static var terminalColumns: Int {
        var size = winsize()
        guard ioctl(FileHandle.standardError.fileDescriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return 80
        }
        return Int(size.ws_col)
    }

    private func write(_ text: String) { StandardStreams.writeError(text) }
}

/// Seconds as a person says them: "0.4 s", "12 s", "3 min 05 s", "2 h 10 min".
func spoken(seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0 else { return "?" }
    switch seconds {
    case ..<10: return String(format: "%.1f s", seconds)
    case ..<100: return String(format: "%.0f s", seconds)
    case ..<6000: return String(format: "%d min %02d s", Int(seconds) / 60, Int(seconds) % 60)
    default: return String(format: "%d h %02d min", Int(seconds) / 3600, Int(seconds) / 60 % 60)
    }
}
