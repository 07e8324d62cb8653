internal import Foundation

/// What a picture's texts say of how it was made, as far as they go.
public struct RecordedRequest: Sendable, Equatable {
    /// Bounds of what is believed. They keep absurd numbers out; what a model can do, the pipeline tells.
    static let steps = 1...FlowMatchEulerDiscreteScheduler.stepLimit
    static let side = 1...65_536
    static let sequenceLength = 1...65_536

    /// What was asked for.
    public let prompt: String
    /// The prompt of the second encoder; nil: the first.
    public let prompt2: String?
    /// The seed of the first latents.
    public let seed: UInt64?
    /// Steps of the sampler.
    public let steps: Int?
    /// The distilled guidance.
    public let guidance: Float?
    /// Pixels.
    public let width: Int?
    /// Pixels.
    public let height: Int?
    /// The model's name, or its folder.
    public let model: String?
    /// All that nibble wrote; nil where the picture is another program's.
    public let record: GenerationRecord?

    /// Reads a picture's texts: the record under `nibble` and, where there is none, what A1111's programs write under
    /// `parameters`.
    ///
    /// - Parameter texts: the texts of a PNG by their keys.
    /// - Throws: `MetadataError.nothingRecorded` where neither is there, or what is wrong with the one that is.
    public init(texts: [String: String]) throws(MetadataError) {
        if let json = texts[GenerationRecord.textKey] {
            self.init(try GenerationRecord(json: json))
        } else if let text = texts[InfoText.textKey] {
            try self.init(InfoText(parsing: text))
        } else {
            throw .nothingRecorded(keys: [GenerationRecord.textKey, InfoText.textKey])
        }
    }

    /// What a record says.
    public init(_ record: GenerationRecord) {
        prompt = record.prompt
        prompt2 = record.prompt2
        seed = record.seed
        steps = record.steps
        guidance = record.guidance
        width = record.width
        height = record.height
        model = record.model
        self.record = record
    }

    /// What an A1111 text says. A negative prompt and settings that FLUX.1 has not are passed over.
    ///
    /// - Parameter infoText: the text's parts.
    /// - Throws: `MetadataError.invalidValue` where a number is none, or absurd.
    public init(_ infoText: InfoText) throws(MetadataError) {
        prompt = infoText.prompt
        prompt2 = nil
        model = infoText["Model"]
        record = nil
        seed = try infoText.value("Seed", expected: "a whole number of 64 bits") { text in
            // As torch: a negative seed stands for that seed modulo 2^64.
            UInt64(text) ?? Int64(text).map(UInt64.init(bitPattern:))
        }
        steps = try infoText.value("Steps", expected: "a whole number") { Int($0) }
        guidance = try infoText.value("Distilled CFG Scale", expected: "a number") { text in
            Float(text).flatMap { $0.isFinite ? $0 : nil }
        }
        let size = try infoText.value("Size", expected: "WIDTHxHEIGHT") { text in
            let parts = text.split(separator: "x", omittingEmptySubsequences: false)
            let sides = parts.compactMap { Int($0) }
            return parts.count == 2 && sides.count == 2 ? sides : nil
        }
        width = size?.first
        height = size?.last
        if let steps { try checkRange("Steps", steps, Self.steps) }
        for side in size ?? [] { try checkRange("Size", side, Self.side) }
    }
}

extension InfoText {
    /// A field's value, without spaces at its ends; nil where it is missing. Throws where it cannot be converted.
    fileprivate func value<Value>(
        _ name: String, expected: String, _ convert: (String) -> Value?
    ) throws(MetadataError) -> Value? {
        guard let text = self[name]?.trimmingCharacters(in: .whitespaces) else { return nil }
        guard let value = convert(text) else { throw .invalidValue(key: name, value: text, expected: expected) }
        return value
    }
}

/// Throws where a number lies outside the bounds of what is believed.
func checkRange(_ key: String, _ value: Int, _ range: ClosedRange<Int>) throws(MetadataError) {
    guard range.contains(value) else {
        throw .invalidValue(key: key, value: "\(value)", expected: "\(range.lowerBound) to \(range.upperBound)")
    }
}
