/// Reads JSON (RFC 8259) from left to right without building a tree. For files whose size an attacker chooses: nesting is
/// bounded, nothing is allocated but the strings that the caller keeps, and the caller sees every key, so that it can
/// refuse a key that comes twice. Foundation's reader keeps the last of two equal keys without a word.
struct JSONReader {
    /// Where and why the text is not what was expected.
    struct Failure: Error, Equatable {
        let offset: Int
        let reason: String
    }

    /// Levels of values that nobody asked for; the formats read here need three.
    static let maximumDepth = 64

    private let bytes: [UInt8]
    private(set) var offset = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// A failure at the current place.
    func failure(_ reason: String) -> Failure { Failure(offset: offset, reason: reason) }

    /// Reads an object. The body is called behind each key's colon and must read the value.
    mutating func object(_ member: (inout JSONReader, String) throws(Failure) -> Void) throws(Failure) {
        try expect("{")
        if take("}") { return }
        repeat {
            let key = try string()
            try expect(":")
            try member(&self, key)
        } while take(",")
        try expect("}")
    }

    /// Reads an array. The body is called at each element and must read it.
    mutating func array(_ element: (inout JSONReader) throws(Failure) -> Void) throws(Failure) {
        try expect("[")
        if take("]") { return }
        repeat { try element(&self) } while take(",")
        try expect("]")
    }

    /// Reads an integer that is not negative and has neither fraction nor exponent.
    mutating func natural() throws(Failure) -> Int {
        skipWhitespace()
        let start = offset
        var value = 0
        while offset < bytes.count, let digit = Self.digit(bytes[offset]) {
            let (tenfold, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tenfold.addingReportingOverflow(digit)
            guard !overflow, !carry else { throw failure("a number is too large") }
            value = sum
            offset += 1
        }
        guard offset > start else { throw failure("expected a non-negative integer, found \(found)") }
        guard bytes[start] != UInt8(ascii: "0") || offset == start + 1 else { throw failure("a number starts with 0") }
        return value
    }

    /// Reads a string.
    mutating func string() throws(Failure) -> String {
        try expect("\"")
        let start = offset
        var escaped = false
        while offset < bytes.count, bytes[offset] != UInt8(ascii: "\"") {
            guard bytes[offset] >= 0x20 else { throw failure("a string holds a control character") }
            if bytes[offset] == UInt8(ascii: "\\") {
                escaped = true
                offset += 1
            }
            offset += 1
        }
        guard offset < bytes.count else { throw failure("a string does not end") }
        let end = offset
        offset += 1
        let text = escaped ? try unescape(start..<end) : String(validating: bytes[start..<end], as: UTF8.self)
        guard let text else { throw Failure(offset: start, reason: "a string is not valid UTF-8") }
        return text
    }

    /// Reads `null` if it is there.
    mutating func takeNull() -> Bool { takeWord("null") }

    /// Reads a value of any kind and forgets it.
    mutating func skipValue(depth: Int = 0) throws(Failure) {
        guard depth < Self.maximumDepth else { throw failure("nested deeper than \(Self.maximumDepth) levels") }
        skipWhitespace()
        guard offset < bytes.count else { throw failure("expected a value, found the end") }
        switch bytes[offset] {
        case UInt8(ascii: "{"):
            try object { (reader, _) throws(Failure) in try reader.skipValue(depth: depth + 1) }
        case UInt8(ascii: "["):
            try array { (reader) throws(Failure) in try reader.skipValue(depth: depth + 1) }
        case UInt8(ascii: "\""):
            _ = try string()
        default:
            if takeWord("null") || takeWord("true") || takeWord("false") { return }
            try skipNumber()
        }
    }

    /// Checks that only white space is left.
    mutating func end() throws(Failure) {
        skipWhitespace()
        guard offset == bytes.count else { throw failure("expected the end, found \(found)") }
    }

    // MARK: - Parts

    private mutating func skipWhitespace() {
        while offset < bytes.count {
            switch bytes[offset] {
            case 0x20, 0x09, 0x0a, 0x0d: offset += 1
            default: return
            }
        }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipWhitespace()
        guard offset < bytes.count, bytes[offset] == UInt8(ascii: character) else { return false }
        offset += 1
        return true
    }

    private mutating func expect(_ character: Unicode.Scalar) throws(Failure) {
        guard take(character) else { throw failure("expected '\(character)', found \(found)") }
    }

    private mutating func takeWord(_ word: StaticString) -> Bool {
        skipWhitespace()
        let length = word.utf8CodeUnitCount
        guard bytes.count - offset >= length else { return false }
        for index in 0..<length where bytes[offset + index] != word.utf8Start[index] { return false }
        offset += length
        return true
    }

    private mutating func skipNumber() throws(Failure) {
        let start = offset
        while offset < bytes.count, Self.digit(bytes[offset]) != nil || "+-.eE".utf8.contains(bytes[offset]) {
            offset += 1
        }
        guard offset > start else { throw failure("expected a value, found \(found)") }
    }

    private static func digit(_ byte: UInt8) -> Int? {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) ? Int(byte - UInt8(ascii: "0")) : nil
    }

    /// What lies at the current place, for messages.
    private var found: String {
        guard offset < bytes.count else { return "the end" }
        let byte = bytes[offset]
        return (0x21..<0x7f).contains(byte) ? "'\(Unicode.Scalar(byte))'" : "byte \(byte)"
    }
}

// MARK: - Escapes

extension JSONReader {
    /// The text of a string that holds escapes; nil where it is not UTF-8.
    private func unescape(_ range: Range<Int>) throws(Failure) -> String? {
        var text: [UInt8] = []
        text.reserveCapacity(range.count)
        var index = range.lowerBound
        while index < range.upperBound {
            guard bytes[index] == UInt8(ascii: "\\") else {
                text.append(bytes[index])
                index += 1
                continue
            }
            let kind = bytes[index + 1]  // the scan in string() skipped pairs, so the escaped byte is in range
            index += 2
            if kind == UInt8(ascii: "u") {
                text.append(contentsOf: String(try scalar(&index, end: range.upperBound)).utf8)
            } else if let plain = Self.escapes[kind] {
                text.append(plain)
            } else {
                throw Failure(offset: index - 1, reason: "a string holds an unknown escape")
            }
        }
        return String(validating: text, as: UTF8.self)
    }

    private static let escapes: [UInt8: UInt8] = [
        UInt8(ascii: "\""): 0x22, UInt8(ascii: "\\"): 0x5c, UInt8(ascii: "/"): 0x2f, UInt8(ascii: "b"): 0x08,
        UInt8(ascii: "f"): 0x0c, UInt8(ascii: "n"): 0x0a, UInt8(ascii: "r"): 0x0d, UInt8(ascii: "t"): 0x09,
    ]

    /// A character written as one escape or as a pair of surrogates (RFC 8259, section 7).
    private func scalar(_ index: inout Int, end: Int) throws(Failure) -> Character {
        let first = try hexadecimal(&index, end: end)
        var value = UInt32(first)
        if UTF16.isLeadSurrogate(first), index + 1 < end, bytes[index] == UInt8(ascii: "\\"),
            bytes[index + 1] == UInt8(ascii: "u")
        {
            index += 2
            let second = try hexadecimal(&index, end: end)
            guard UTF16.isTrailSurrogate(second) else {
                throw Failure(offset: index, reason: "a string holds half of a surrogate pair")
            }
            value = 0x10000 + (UInt32(first) - 0xd800) << 10 + (UInt32(second) - 0xdc00)
        }
        guard let scalar = Unicode.Scalar(value) else {
            throw Failure(offset: index, reason: "a string holds half of a surrogate pair")
        }
        return Character(scalar)
    }

    private func hexadecimal(_ index: inout Int, end: Int) throws(Failure) -> UInt16 {
        guard end - index >= 4, !bytes[index..<index + 4].contains(where: { $0 == UInt8(ascii: "+") || $0 == 0x2d }),
            let value = UInt16(String(decoding: bytes[index..<index + 4], as: UTF8.self), radix: 16)
        else { throw Failure(offset: index, reason: "an escape needs four hexadecimal digits") }
        index += 4
        return value
    }
}
