/// Reads the fields of a protocol-buffer message one after another (protobuf.dev, "Encoding").
///
/// It holds a slice of the file and copies nothing, so no length in the file makes it allocate.
struct ProtobufReader {
    /// What a field holds, by its wire type.
    enum Value {
        case integer(UInt64)
        case bits32(UInt32)
        case bits64(UInt64)
        case bytes(ArraySlice<UInt8>)
    }

    private var rest: ArraySlice<UInt8>

    init(_ message: ArraySlice<UInt8>) {
        rest = message
    }

    /// The next field's number and value; nil at the end.
    mutating func next() throws -> (field: UInt64, value: Value)? {
        guard !rest.isEmpty else { return nil }
        let tag = try integer()
        switch tag & 7 {
        case 0: return (tag >> 3, .integer(try integer()))
        case 1: return (tag >> 3, .bits64(try littleEndian(8)))
        case 2:
            let length = try integer()
            guard length <= UInt64(rest.count) else {
                throw ContentProblem.malformed("a field of \(length) bytes, where \(rest.count) are left")
            }
            return (tag >> 3, .bytes(take(Int(length))))
        case 5: return (tag >> 3, .bits32(UInt32(truncatingIfNeeded: try littleEndian(4))))
        default: throw ContentProblem.malformed("a field of the wire type \(tag & 7)")
        }
    }

    private mutating func take(_ count: Int) -> ArraySlice<UInt8> {
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }

    private mutating func littleEndian(_ count: Int) throws -> UInt64 {
        guard rest.count >= count else { throw ContentProblem.malformed("the file is cut short") }
        return take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// A variable-length integer: 7 bits a byte, lowest first, at most 10 bytes.
    private mutating func integer() throws -> UInt64 {
        var result: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = rest.popFirst() else { throw ContentProblem.malformed("the file is cut short") }
            result |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return result }
        }
        throw ContentProblem.malformed("a number of more than 10 bytes")
    }
}
