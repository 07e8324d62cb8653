internal import Foundation
internal import Synchronization

/// How far a download is.
public struct HubProgress: Sendable {
    /// Bytes that are here, of the files that were missing at the start; what an earlier try left counts.
    public let bytes: Int
    /// Bytes of all files that were missing.
    public let totalBytes: Int
    /// Files that are complete.
    public let files: Int
    /// Files that were missing.
    public let totalFiles: Int
    /// At the speed of the last seconds; `nil` before there is one.
    public let secondsLeft: Double?
}

/// Receives progress, from any thread, some times a second while bytes come, and after each file.
public typealias HubProgressHandler = @Sendable (HubProgress) -> Void

/// Adds up what several downloads report.
final class ProgressMeter: Sendable {
    private struct State {
        var bytes = 0
        var files = 0
        /// Times and bytes of the last seconds, one a second at most.
        var samples: [(time: ContinuousClock.Instant, bytes: Int)] = []
        var lastReport: ContinuousClock.Instant?
    }

    /// The speed is the mean over so many seconds: long enough not to flicker, short enough to follow.
    private static let window = 15
    /// Pieces come far more often than a person can see.
    private static let interval = Duration.milliseconds(100)

    private let totalBytes: Int
    private let totalFiles: Int
    private let handler: HubProgressHandler?
    private let state = Mutex(State())

    init(totalBytes: Int, totalFiles: Int, handler: HubProgressHandler?) {
        self.totalBytes = totalBytes
        self.totalFiles = totalFiles
        self.handler = handler
    }

    /// - Parameter bytes: that came; negative where some have to come again.
    func add(bytes: Int) { report(isMilestone: false) { $0.bytes += bytes } }

    func addFile() { report(isMilestone: true) { $0.files += 1 } }

    private func report(isMilestone: Bool, _ change: (inout State) -> Void) {
        guard let handler else { return }
        let progress = state.withLock { state -> HubProgress? in
            change(&state)
            let now = ContinuousClock.now
            let isDue = state.lastReport.map { now - $0 >= Self.interval } ?? true
            guard isMilestone || isDue else { return nil }
            state.lastReport = now
            if state.samples.last.map({ now - $0.time >= .seconds(1) }) ?? true {
                state.samples.append((now, state.bytes))
                if state.samples.count > Self.window { state.samples.removeFirst() }
            }
            return HubProgress(
                bytes: state.bytes, totalBytes: totalBytes, files: state.files, totalFiles: totalFiles,
                secondsLeft: secondsLeft(state, at: now))
        }
        if let progress { handler(progress) }
    }

    private func secondsLeft(_ state: borrowing State, at now: ContinuousClock.Instant) -> Double? {
        guard let first = state.samples.first, state.bytes > first.bytes else { return nil }
        let seconds = (now - first.time) / .seconds(1)
        guard seconds >= 1 else { return nil }
        return Double(totalBytes - state.bytes) * seconds / Double(state.bytes - first.bytes)
    }
}
