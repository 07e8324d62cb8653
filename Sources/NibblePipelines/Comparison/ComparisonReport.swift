public import Foundation
internal import NibbleTensors

/// A comparison's figures. As JSON it has snake-case keys.
public struct ComparisonReport: Sendable, Equatable, Codable {
    /// A transformer and how it ran.
    public struct Transformer: Sendable, Equatable, Codable {
        /// Names it in the comparison, and in the names of files: `full-precision`, or a file's name and what its
        /// activations were quantized to.
        public let name: String
        /// The file or folder.
        public let path: String
        /// What the inputs of 4-bit layers were quantized to: `int4` or `int8`; nil where there are none.
        public let activations: String?
        /// What its attention multiplied: `f32`, `bf16` or `int8`.
        public let attention: String
        /// Bytes of all its tensors, as stored.
        public let weightBytes: Int
        /// The median over all steps: the first ones, which still read weights and compile, count no more than others.
        public var secondsPerStep: Double
    }

    /// A transformer beside the full-precision one, over all pictures.
    public struct Variant: Sendable, Equatable, Codable {
        /// What ran.
        public var transformer: Transformer
        /// The means over all pictures.
        public var mean: Deviation
        /// Pictures that are the full-precision model's byte for byte; they are left out of the mean of the PSNR.
        public var equalPictures: Int
    }

    /// One picture by all transformers.
    public struct Picture: Sendable, Equatable, Codable {
        /// Names it in the names of files: its number, the beginning of the prompt, the seed.
        public let name: String
        /// The prompt.
        public let prompt: String
        /// The seed. A string, since JSON's numbers end at 2^53.
        public let seed: String
        /// In the order of the variants.
        public let deviations: [Deviation]
    }

    /// The number of the JSON's form: raised when a reader of the old form would misread it.
    public internal(set) var format = 1
    /// The version of nibble.
    public let nibbleVersion: String
    /// The instruction set whose kernels ran.
    public let instructionSet: String
    /// The model's folder.
    public let model: String
    /// What all networks computed in, but for 4-bit layers.
    public let precision: String
    /// Of every picture.
    public let steps: Int
    /// Of every picture; nil where the model takes none.
    public let guidance: Float?
    /// Pixels.
    public let width: Int
    /// Pixels.
    public let height: Int
    /// The model's own transformer.
    public internal(set) var reference: Transformer
    /// The others.
    public internal(set) var variants: [Variant]
    /// In the order in which they were made.
    public internal(set) var pictures: [Picture]
    /// The largest resident size of the whole process so far, mapped files included.
    public internal(set) var peakRssBytes: Int

    /// The JSON, on many lines, keys sorted.
    ///
    /// - Throws: what JSON cannot hold.
    public func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return try encoder.encode(self)
    }

    /// Reads what `json` gave.
    ///
    /// - Parameter json: the bytes.
    /// - Throws: what is wrong with them.
    public init(json: Data) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(ComparisonReport.self, from: json)
    }
}

extension ComparisonReport {
    /// A report of the first picture.
    ///
    /// - Parameters:
    ///   - record: how the full-precision picture was made.
    ///   - picture: the picture.
    ///   - transformers: the model's own first.
    init(_ record: GenerationRecord, _ picture: Picture, _ transformers: [Transformer]) {
        nibbleVersion = record.nibbleVersion
        instructionSet = record.instructionSet
        model = record.model
        precision = record.precision.rawValue
        steps = record.steps
        guidance = record.guidance
        (width, height) = (record.width, record.height)
        reference = transformers[0]
        pictures = [picture]
        variants = zip(transformers.dropFirst(), picture.deviations).map { transformer, deviation in
            Variant(transformer: transformer, mean: deviation, equalPictures: deviation.psnr.value.isFinite ? 0 : 1)
        }
        peakRssBytes = ProcessMemory.peakBytes
    }

    /// Adds a picture.
    ///
    /// - Parameters:
    ///   - picture: the picture.
    ///   - secondsPerStep: so far, of the model's own transformer and the others.
    mutating func add(_ picture: Picture, secondsPerStep: [Double]) {
        pictures.append(picture)
        reference.secondsPerStep = secondsPerStep[0]
        for index in variants.indices {
            let deviations = pictures.map { $0.deviations[index] }
            variants[index].transformer.secondsPerStep = secondsPerStep[index + 1]
            variants[index].mean = Deviation(meanOf: deviations)
            variants[index].equalPictures = deviations.count { !$0.psnr.value.isFinite }
        }
        peakRssBytes = ProcessMemory.peakBytes
    }
}
