internal import Foundation
public import NibbleTensors

/// Everything needed to make a picture again, byte for byte on the same instruction set. A PNG carries it as JSON in a
/// text of the key `nibble`.
public struct GenerationRecord: Sendable, Equatable {
    /// The key of the PNG text.
    public static let textKey = "nibble"

    /// The number of the JSON's form: raised when a reader of the old form would make another picture.
    static let format = 1

    /// What was asked for.
    public var prompt: String
    /// The prompt of the second encoder (T5); nil: the first.
    public var prompt2: String?
    /// The seed of the first latents. A string in JSON, where numbers end at 2^53.
    public var seed: UInt64
    /// Euler steps.
    public var steps: Int
    /// The distilled guidance; nil where the model takes none.
    public var guidance: Float?
    /// Pixels.
    public var width: Int
    /// Pixels.
    public var height: Int
    /// Tokens of the second encoder.
    public var maxSequenceLength: Int
    /// What the networks computed in.
    public var precision: Precision
    /// The model's name, or its folder.
    public var model: String
    /// The transformer that took the place of the model's; nil: the model's own.
    public var transformer: String?
    /// The T5 that took the place of the model's; nil: the model's own.
    public var textEncoder2: String?
    /// What the inputs of 4-bit layers were quantized to; nil where there are none.
    public var activations: ActivationBits?
    /// What the products of 4-bit layers were summed in. In JSON only where it is not f32.
    public var accumulation: Accumulation
    /// What the transformer's attention multiplied. In JSON only where it was not that of `precision`.
    public var attention: AttentionPrecision
    /// The thresholds of the first-block cache, one or two; nil: there was none. In JSON only where there was one.
    public var firstBlockCache: [Float]?
    /// Something that another model of the same name would not share; nil: not known.
    public var modelFingerprint: String?
    /// The version of nibble.
    public var nibbleVersion: String
    /// The instruction set whose kernels ran.
    public var instructionSet: String
    /// Whether timestep and guidance were rounded as a bf16 diffusers run does.
    public var roundsConditioning: Bool

    /// A record of all its values.
    public init(
        prompt: String, prompt2: String? = nil, seed: UInt64, steps: Int, guidance: Float?, width: Int, height: Int,
        maxSequenceLength: Int, precision: Precision, model: String, transformer: String? = nil,
        textEncoder2: String? = nil, activations: ActivationBits? = nil, accumulation: Accumulation = .f32,
        attention: AttentionPrecision = .bf16, firstBlockCache: [Float]? = nil, modelFingerprint: String? = nil,
        nibbleVersion: String, instructionSet: String, roundsConditioning: Bool
    ) {
        self.prompt = prompt
        self.prompt2 = prompt2
        self.seed = seed
        self.steps = steps
        self.guidance = guidance
        self.width = width
        self.height = height
        self.maxSequenceLength = maxSequenceLength
        self.precision = precision
        self.model = model
        self.transformer = transformer
        self.textEncoder2 = textEncoder2
        self.activations = activations
        self.accumulation = accumulation
        self.attention = attention
        self.firstBlockCache = firstBlockCache
        self.modelFingerprint = modelFingerprint
        self.nibbleVersion = nibbleVersion
        self.instructionSet = instructionSet
        self.roundsConditioning = roundsConditioning
    }

    /// A record read from the JSON of a PNG's text.
    ///
    /// - Parameter json: the text of the key `textKey`.
    /// - Throws: `MetadataError.malformed` where it is no such JSON, `.unknownFormat`, `.invalidValue`.
    public init(json: String) throws(MetadataError) {
        do {
            self = try JSONDecoder().decode(GenerationRecord.self, from: Data(json.utf8))
        } catch let error as MetadataError {
            throw error
        } catch {
            throw .malformed(key: Self.textKey, reason: oneLine(error))
        }
        try check()
    }

    /// The record as JSON, keys sorted: equal records give equal texts.
    ///
    /// - Returns: the text of the key `textKey`.
    /// - Throws: `MetadataError.invalidValue` for what `init(json:)` would refuse.
    public func json() throws(MetadataError) -> String {
        try check()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        } catch {
            throw .malformed(key: Self.textKey, reason: oneLine(error))
        }
    }

    private func check() throws(MetadataError) {
        try checkRange("steps", steps, RecordedRequest.steps)
        try checkRange("width", width, RecordedRequest.side)
        try checkRange("height", height, RecordedRequest.side)
        try checkRange("max_sequence_length", maxSequenceLength, RecordedRequest.sequenceLength)
        if let values = firstBlockCache, !values.allSatisfy({ $0 > 0 && $0 <= 10 }) || !(1...2).contains(values.count) {
            throw .invalidValue(key: "first_block_cache", value: "\(values)", expected: "one or two numbers above 0")
        }
        guard guidance?.isFinite ?? true else {
            throw .invalidValue(key: "guidance", value: "\(guidance ?? 0)", expected: "a number")
        }
    }
}

extension GenerationRecord: Codable {
    private enum CodingKeys: String, CodingKey {
        case format, prompt, seed, steps, guidance, width, height, precision, model, transformer, activations
        case accumulation, attention
        case prompt2 = "prompt_2"
        case textEncoder2 = "text_encoder_2"
        case firstBlockCache = "first_block_cache"
        case maxSequenceLength = "max_sequence_length"
        case modelFingerprint = "model_fingerprint"
        case nibbleVersion = "nibble_version"
        case instructionSet = "instruction_set"
        case roundsConditioning = "rounds_conditioning"
    }

    /// Reads a record; a format or precision that is not known and a seed that is no number throw `MetadataError`.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let format = try container.decode(Int.self, forKey: .format)
        guard format == Self.format else { throw MetadataError.unknownFormat(found: format, known: Self.format) }
        let seedText = try container.decode(String.self, forKey: .seed)
        guard let seed = UInt64(seedText) else {
            throw MetadataError.invalidValue(key: "seed", value: seedText, expected: "a whole number below 2^64")
        }
        self.init(
            prompt: try container.decode(String.self, forKey: .prompt),
            prompt2: try container.decodeIfPresent(String.self, forKey: .prompt2),
            seed: seed,
            steps: try container.decode(Int.self, forKey: .steps),
            guidance: try container.decodeIfPresent(Float.self, forKey: .guidance),
            width: try container.decode(Int.self, forKey: .width),
            height: try container.decode(Int.self, forKey: .height),
            maxSequenceLength: try container.decode(Int.self, forKey: .maxSequenceLength),
            precision: try Self.known("precision", container.decode(String.self, forKey: .precision)),
            model: try container.decode(String.self, forKey: .model),
            transformer: try container.decodeIfPresent(String.self, forKey: .transformer),
            textEncoder2: try container.decodeIfPresent(String.self, forKey: .textEncoder2),
            activations: try container.decodeIfPresent(String.self, forKey: .activations).map { text in
                try Self.known("activations", text)
            },
            accumulation: try container.decodeIfPresent(String.self, forKey: .accumulation).map { text in
                try Self.known("accumulation", text)
            } ?? .f32,
            attention: try container.decodeIfPresent(String.self, forKey: .attention).map { text in
                try Self.known("attention", text)
            } ?? .bf16,
            firstBlockCache: try container.decodeIfPresent([Float].self, forKey: .firstBlockCache),
            modelFingerprint: try container.decodeIfPresent(String.self, forKey: .modelFingerprint),
            nibbleVersion: try container.decode(String.self, forKey: .nibbleVersion),
            instructionSet: try container.decode(String.self, forKey: .instructionSet),
            roundsConditioning: try container.decode(Bool.self, forKey: .roundsConditioning))
    }

    /// The value of a text; throws for one that is not known.
    private static func known<Value: RawRepresentable<String> & CaseIterable>(
        _ key: String, _ text: String
    ) throws(MetadataError) -> Value {
        guard let value = Value(rawValue: text) else {
            let known = Value.allCases.map(\.rawValue).joined(separator: " or ")
            throw .invalidValue(key: key, value: text, expected: known)
        }
        return value
    }

    /// Writes the record, its seed as a string.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(Self.format, forKey: .format)
        try container.encode(prompt, forKey: .prompt)
        try container.encodeIfPresent(prompt2, forKey: .prompt2)
        try container.encode(String(seed), forKey: .seed)
        try container.encode(steps, forKey: .steps)
        try container.encodeIfPresent(guidance, forKey: .guidance)
        try container.encode(width, forKey: .width)
        try container.encode(height, forKey: .height)
        try container.encode(maxSequenceLength, forKey: .maxSequenceLength)
        try container.encode(precision.rawValue, forKey: .precision)
        try container.encode(model, forKey: .model)
        try container.encodeIfPresent(transformer, forKey: .transformer)
        try container.encodeIfPresent(textEncoder2, forKey: .textEncoder2)
        try container.encodeIfPresent(activations?.rawValue, forKey: .activations)
        if accumulation != .f32 { try container.encode(accumulation.rawValue, forKey: .accumulation) }
        if attention != .bf16 { try container.encode(attention.rawValue, forKey: .attention) }
        try container.encodeIfPresent(firstBlockCache, forKey: .firstBlockCache)
        try container.encodeIfPresent(modelFingerprint, forKey: .modelFingerprint)
        try container.encode(nibbleVersion, forKey: .nibbleVersion)
        try container.encode(instructionSet, forKey: .instructionSet)
        try container.encode(roundsConditioning, forKey: .roundsConditioning)
    }
}
