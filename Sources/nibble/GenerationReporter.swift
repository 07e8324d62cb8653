internal import Foundation
internal import NibbleCheckpoints
internal import NibblePipelines
internal import NibbleTensors

/// Shows the events of a pipeline, and keeps what they bring: pictures, and latents until their picture is safe.
struct GenerationReporter {
    private let outputs: OutputPaths
    private var progress: ProgressLine
    private var written: [FluxPicture] = []
    private var kept: KeptLatents?
    private var stepSeconds: Double?

    /// Latents that took longer than this to make are put on disk before they are decoded.
    private static let worthKeeping = 30.0

    init(isQuiet: Bool, outputs: OutputPaths) {
        self.outputs = outputs
        progress = ProgressLine(isQuiet: isQuiet)
    }

    mutating func handle(_ event: FluxEvent) throws {
        switch event {
        case .stage(let stage):
            // All steps of a picture are done when it is decoded.
            let done = written.count + (stage == .decoding ? 1 : 0)
            progress.show(Double(done) / Double(max(outputs.paths.count, 1)), stage.rawValue, isMilestone: true)
        case .progress(let now): show(now)
        case .step: break
        case .denoised(let denoised):
            guard let stepSeconds, stepSeconds * Double(denoised.record.steps) > Self.worthKeeping else { return }
            kept = try KeptLatents(denoised, beside: outputs.paths[written.count])
        case .picture(let picture):
            let path = outputs.paths[written.count]
            try picture.write(to: path)
            kept?.remove()
            kept = nil
            written.append(picture)
            progress.say("\(path)  seed \(picture.record.seed), \(picture.record.width) × \(picture.record.height)")
        }
    }

    /// Ends the display of work that did not come to its end, and says what is left of it.
    mutating func abandon() {
        progress.clear()
        guard let kept else { return }
        progress.say(
            "the picture is drawn but not decoded; finish it with: "
                + "nibble decode '\(kept.path)' --output '\(outputs.paths[written.count])'")
    }

    private mutating func show(_ now: FluxEvent.Progress) {
        stepSeconds = now.secondsPerStep ?? stepSeconds
        var text = "step \(min(now.step + 1, now.steps))/\(now.steps)"
        if now.pictures > 1 { text = "picture \(now.picture + 1)/\(now.pictures), \(text)" }
        if let perStep = now.secondsPerStep { text += String(format: ", %.2f s a step", perStep) }
        if let left = now.secondsLeft, now.fraction < 1 { text += ", \(spoken(seconds: left)) left" }
        progress.show(now.fraction, text, isMilestone: now.block == 0)
    }

    /// Ends the display and prints the report.
    ///
    /// - Parameters:
    ///   - original: what the picture to be made again says of itself.
    ///   - seconds: how long all took.
    ///   - memoryLimit: the bytes that were asked to be stayed below.
    ///   - json: whether a report is wanted.
    /// - Throws: what encoding the report throws.
    mutating func finish(_ original: GenerationRecord?, seconds: Double, memoryLimit: Int?, json: Bool) throws {
        progress.clear()
        let peak = ProcessMemory.peakBytes
        if let memoryLimit, peak > memoryLimit {
            progress.say("--memory was too little for this picture: it took \(ByteCount(peak))")
        }
        if let original, let made = written.first?.record {
            let differences = original.differences(from: made)
            if !differences.isEmpty {
                progress.say(
                    "the picture may differ from the original in its bytes: other "
                        + differences.joined(separator: ", "))
            }
        }
        guard json else { return }
        try printJSON(
            Report(
                pictures: zip(written, outputs.paths).map { Report.Picture(path: $1, record: $0.record) },
                seconds: seconds, secondsPerStep: stepSeconds, peakRssBytes: peak))
    }

    private struct Report: Encodable {
        struct Picture: Encodable {
            let path: String
            let record: GenerationRecord
        }
        let pictures: [Picture]
        let seconds: Double
        let secondsPerStep: Double?
        let peakRssBytes: Int
    }
}

/// Latents on disk while their picture is decoded: if that does not come to its end, `nibble decode` takes them up.
struct KeptLatents {
    static let tensorName = "latents"
    let path: String

    init(_ denoised: DenoisedLatents, beside picture: String) throws {
        path = picture + ".latents.safetensors"
        try SafetensorsWriter.write(
            [Self.tensorName: denoised.latents], to: path,
            metadata: [GenerationRecord.textKey: denoised.record.json()])
    }

    /// The picture is safe: latents that cannot be removed do no harm.
    func remove() { try? FileManager.default.removeItem(atPath: path) }
}

extension GenerationRecord {
    /// What of this record keeps another run from giving the same bytes, in words.
    func differences(from other: GenerationRecord) -> [String] {
        var differences: [String] = []
        if modelFingerprint != other.modelFingerprint { differences.append("model") }
        if instructionSet != other.instructionSet { differences.append("instruction set") }
        let arithmetic = precision == other.precision && attention == other.attention
        let layers = activations == other.activations && accumulation == other.accumulation
        if !arithmetic || !layers { differences.append("precision") }
        if nibbleVersion != other.nibbleVersion { differences.append("version of Nibble") }
        return differences
    }
}
