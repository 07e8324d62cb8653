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
        case .stage(let stage): progress.show(fraction, stage.rawValue)
        case .progress(let now): show(now)
        case .step: break
        case .denoised(let denoised):
            guard let stepSeconds, stepSeconds * Double(denoised.record.steps) > Self.worthKeeping else { return }
            kept = try KeptLatents(denoised, beside: outputs.paths[written.count])
        case .picture(let picture):
            let path = outputs.paths[written.count]
            try picture.write(to: path)
            try kept?.remove()
            kept = nil
            written.append(picture)
            progress.say("\(path)  seed \(picture.record.seed), \(picture.record.width) × \(picture.record.height)")
        }
    }

    private var fraction: Double { Double(written.count) / Double(max(outputs.paths.count, 1)) }

    private mutating func show(_ now: FluxEvent.Progress) {
        stepSeconds = now.secondsPerStep ?? stepSeconds
        var text = "step \(min(now.step + 1, now.steps))/\(now.steps)"
        if now.pictures > 1 { text = "picture \(now.picture + 1)/\(now.pictures), \(text)" }
        if let perStep = now.secondsPerStep, let left = now.secondsLeft {
            text += String(format: ", %.2f s a step, ", perStep) + spoken(seconds: left) + " left"
        }
        progress.show(now.fraction, text, isMilestone: now.block == 0)
    }

    /// Ends the display and prints the report.
    mutating func finish(_ original: GenerationRecord?, seconds: Double, json: Bool) throws {
        progress.clear()
        if let original, let made = written.first?.record {
            let differences = original.differences(from: made)
            if !differences.isEmpty {
                progress.say(
                    "not the same bytes as the original are to be expected: other "
                        + differences.joined(separator: ", "))
            }
        }
        guard json else { return }
        try printJSON(
            Report(
                pictures: zip(written, outputs.paths).map { Report.Picture(path: $1, record: $0.record) },
                seconds: seconds, secondsPerStep: stepSeconds, peakRssBytes: ProcessMemory.peakBytes))
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
    private let path: String

    init(_ denoised: DenoisedLatents, beside picture: String) throws {
        path = picture + ".latents.safetensors"
        try SafetensorsWriter.write(
            [Self.tensorName: denoised.latents], to: path,
            metadata: [GenerationRecord.textKey: denoised.record.json()])
    }

    func remove() throws { try FileManager.default.removeItem(atPath: path) }
}

extension GenerationRecord {
    /// What of this record keeps another run from giving the same bytes, in words.
    func differences(from other: GenerationRecord) -> [String] {
        var differences: [String] = []
        if modelFingerprint != other.modelFingerprint { differences.append("model") }
        if instructionSet != other.instructionSet { differences.append("instruction set") }
        if precision != other.precision { differences.append("precision") }
        if nibbleVersion != other.nibbleVersion { differences.append("version of Nibble") }
        return differences
    }
}
