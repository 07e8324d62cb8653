public import NibbleTensors

/// A tensor as a safetensors header lists it.
public struct TensorEntry: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// The type of its elements.
    public let dtype: DType
    /// Its extents.
    public let shape: Shape
    /// Where its bytes lie, from the start of the file.
    public let byteRange: Range<Int>
}

/// The header of a safetensors file: 8 bytes little-endian length, then that many bytes of JSON, then the data
/// (https://huggingface.co/docs/safetensors, "Format").
struct SafetensorsHeader {
    /// The reference implementation refuses longer headers too.
    static let maximumLength = 100_000_000
    /// Bytes of the length that comes first.
    static let prefixLength = 8

    /// Axes of one tensor; NumPy and PyTorch have no more. Without a limit a shape could be as long as the header.
    static let maximumRank = 64

    /// The tensors in the order of their data.
    let entries: [TensorEntry]
    /// The strings of `__metadata__`.
    let metadata: [String: String]

    /// Reads and checks the header of a file.
    ///
    /// - Parameters:
    ///   - file: all bytes of the file.
    ///   - path: the file's name, for error messages.
    /// - Throws: `CheckpointError.malformed` or `.malformedTensor`.
    init(_ file: UnsafeRawBufferPointer, path: String) throws(CheckpointError) {
        guard file.count >= Self.prefixLength else {
            throw .malformed(
                path: path, reason: "\(file.count) bytes are too few for a safetensors file; download it again")
        }
        let length = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
        guard length <= UInt64(Self.maximumLength) else {
            throw .malformed(
                path: path,
                reason: "not a safetensors file: the header's length reads as \(length); "
                    + "at most \(Self.maximumLength) is allowed")
        }
        let start = Self.prefixLength + Int(length)
        guard start <= file.count else {
            throw .malformed(
                path: path,
                reason: "the header ends at byte \(start), but the file at \(file.count); it is cut short, "
                    + "download it again")
        }
        guard length > 0, file[Self.prefixLength] == UInt8(ascii: "{") else {
            throw .malformed(path: path, reason: "not a safetensors file: the header does not start with '{'")
        }
        var parser = HeaderParser(path: path)
        do throws(JSONReader.Failure) {
            try parser.parse([UInt8](file[Self.prefixLength..<start]))
        } catch {
            throw parser.refusal
                ?? .malformed(path: path, reason: "header, byte \(error.offset + Self.prefixLength): \(error.reason)")
        }
        metadata = parser.metadata
        entries = try Self.place(parser.listed, dataStart: start, fileSize: file.count, path: path)
    }

    /// Checks that the tensors cover the data exactly, without overlap or hole, and turns their offsets into the file's.
    private static func place(
        _ listed: [HeaderParser.Listed], dataStart: Int, fileSize: Int, path: String
    ) throws(CheckpointError) -> [TensorEntry] {
        let dataSize = fileSize - dataStart
        let ordered = listed.sorted { ($0.begin, $0.end) < ($1.begin, $1.end) }
        var covered = 0
        var entries: [TensorEntry] = []
        entries.reserveCapacity(ordered.count)
        for tensor in ordered {
            func refuse(_ reason: String) -> CheckpointError {
                .malformedTensor(path: path, name: tensor.name, reason: reason)
            }
            let (begin, end) = (tensor.begin, tensor.end)
            guard begin <= end else { throw refuse("its data ends at \(end) before it begins at \(begin)") }
            guard end <= dataSize else {
                throw refuse(
                    "its data ends at byte \(end), but the file holds \(dataSize) bytes of data; it is cut short, "
                        + "download it again")
            }
            guard begin >= covered else { throw refuse("its data overlaps the tensor before it, at byte \(begin)") }
            guard begin == covered else { throw refuse("bytes \(covered) to \(begin) before it belong to no tensor") }
            guard end - begin == tensor.byteCount else {
                throw refuse(
                    "\(tensor.dtype.rawValue) \(tensor.shape) is \(tensor.byteCount) bytes, "
                        + "but its data_offsets span \(end - begin)")
            }
            covered = end
            entries.append(
                TensorEntry(
                    name: tensor.name, dtype: tensor.dtype, shape: tensor.shape,
                    byteRange: dataStart + begin..<dataStart + end))
        }
        guard covered == dataSize else {
            throw .malformed(path: path, reason: "\(dataSize - covered) bytes at the end belong to no tensor")
        }
        return entries
    }
}

/// The JSON part of a header.
private struct HeaderParser {
    struct Listed {
        let name: String
        let dtype: DType
        let shape: Shape
        let byteCount: Int
        let begin: Int
        let end: Int
    }

    let path: String
    private(set) var listed: [Listed] = []
    private(set) var metadata: [String: String] = [:]
    /// What is wrong with a tensor, where that says more than the place in the text.
    private(set) var refusal: CheckpointError?

    init(path: String) { self.path = path }

    mutating func parse(_ text: [UInt8]) throws(JSONReader.Failure) {
        var reader = JSONReader(text)
        var names: Set<String> = []
        var sawMetadata = false
        try reader.object { (reader, name) throws(JSONReader.Failure) in
            if name == "__metadata__" {
                guard !sawMetadata else { throw reader.failure("'__metadata__' comes twice") }
                sawMetadata = true
                try readMetadata(&reader)
            } else {
                guard names.insert(name).inserted else { throw refuse(name, "it is listed twice", at: reader) }
                listed.append(try readTensor(name, &reader))
            }
        }
        try reader.end()
    }

    private mutating func readMetadata(_ reader: inout JSONReader) throws(JSONReader.Failure) {
        if reader.takeNull() { return }
        try reader.object { (reader, key) throws(JSONReader.Failure) in
            let value = try reader.string()
            guard metadata.updateValue(value, forKey: key) == nil else {
                throw reader.failure("a key of '__metadata__' comes twice")
            }
        }
    }

    private mutating func readTensor(_ name: String, _ reader: inout JSONReader) throws(JSONReader.Failure) -> Listed {
        var dtypeName: String?
        var dimensions: [Int]?
        var offsets: [Int]?
        try reader.object { (reader, key) throws(JSONReader.Failure) in
            switch key {
            case "dtype" where dtypeName == nil: dtypeName = try reader.string()
            case "shape" where dimensions == nil: dimensions = try Self.naturals(&reader)
            case "data_offsets" where offsets == nil: offsets = try Self.naturals(&reader)
            case "dtype", "shape", "data_offsets": throw refuse(name, "its '\(key)' comes twice", at: reader)
            default: try reader.skipValue()
            }
        }
        guard let dtypeName, let dimensions, let offsets else {
            throw refuse(name, "its entry needs 'dtype', 'shape' and 'data_offsets'", at: reader)
        }
        guard let dtype = DType(rawValue: dtypeName) else {
            let known = DType.allCases.map(\.rawValue).joined(separator: ", ")
            throw refuse(name, "it has the unknown type '\(dtypeName)'; known are \(known)", at: reader)
        }
        guard offsets.count == 2 else { throw refuse(name, "its 'data_offsets' are not two numbers", at: reader) }
        guard let byteCount = Self.byteCount(dimensions, dtype) else {
            throw refuse(name, "its shape has more elements than can be counted", at: reader)
        }
        return Listed(
            name: name, dtype: dtype, shape: Shape(dimensions), byteCount: byteCount, begin: offsets[0], end: offsets[1]
        )
    }

    private mutating func refuse(_ name: String, _ reason: String, at reader: JSONReader) -> JSONReader.Failure {
        refusal = .malformedTensor(path: path, name: name, reason: reason)
        return reader.failure(reason)
    }

    private static func naturals(_ reader: inout JSONReader) throws(JSONReader.Failure) -> [Int] {
        var numbers: [Int] = []
        try reader.array { (reader) throws(JSONReader.Failure) in
            guard numbers.count < SafetensorsHeader.maximumRank else { throw reader.failure("a list is too long") }
            numbers.append(try reader.natural())
        }
        return numbers
    }

    /// The bytes of a tensor; nil when the extents overflow. Extents of zero count as one in the test: the others'
    /// product must be a number too, since a view computes the elements of a row without the first axis.
    private static func byteCount(_ dimensions: [Int], _ dtype: DType) -> Int? {
        var largest = dtype.byteSize
        for extent in dimensions {
            let (product, overflow) = largest.multipliedReportingOverflow(by: max(extent, 1))
            guard !overflow else { return nil }
            largest = product
        }
        return dimensions.contains(0) ? 0 : largest
    }
}
