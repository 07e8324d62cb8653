internal import Foundation
internal import NibblePipelines
internal import NibbleQuantizer
internal import Synchronization

/// The bar of a quantization: first the model draws, then its blocks are made smaller.
final class QuantizationLine: Sendable {
    private struct State {
        var line: ProgressLine
        /// When the present part of the work began: each has its own time left.
        var began: (part: String, at: ContinuousClock.Instant)?

        mutating func show(_ part: String, _ fraction: Double, _ text: String) {
            if began?.part != part { began = (part, .now) }
            var text = text
            if let began, fraction > 0 {
                let elapsed = (ContinuousClock.now - began.at) / .seconds(1)
                text += ", \(spoken(seconds: elapsed * (1 - fraction) / fraction)) left"
            }
            line.show(fraction, text, isMilestone: !line.isTerminal)
        }
    }

    private let state: Mutex<State>

    init(isQuiet: Bool) { state = Mutex(State(line: ProgressLine(isQuiet: isQuiet))) }

    /// Shows how far the pictures are that the model is observed with.
    func show(_ progress: FluxPipeline.RecordingProgress) {
        switch progress {
        case .encoding(let prompt, let count):
            let fraction = Double(prompt) / Double(count)
            state.withLock { $0.show("prompts", fraction, "prompt \(prompt + 1) of \(count) is read") }
        case .denoising(let fraction):
            state.withLock { $0.show("pictures", fraction, "the model draws, to be observed") }
        }
    }

    /// Shows how far the blocks are.
    func show(_ progress: BlockQuantizer.Progress) {
        let fraction = Double(progress.done) / Double(max(progress.total, 1))
        // Without the block's name, which stands before it.
        let layer = progress.layer.map { name in
            name.split(separator: ".").drop { Int($0) == nil }.dropFirst().joined(separator: ".")
        }
        var text = "\(progress.block) \(layer ?? "is observed")"
        if let error = progress.error { text += String(format: ", last error %.2f %%", 100 * error) }
        state.withLock { $0.show("blocks", fraction, text) }
    }

    /// Writes a line that stays.
    func say(_ text: String) { state.withLock { $0.line.say(text) } }

    /// Takes the bar off the terminal.
    func clear() { state.withLock { $0.line.clear() } }
}
