internal import CNibbleSystem
internal import Foundation

extension PNG {
    /// One text of a picture: what the chunks tEXt, zTXt and iTXt hold.
    public struct Text: Sendable, Equatable {
        /// 1 to 79 printable Latin-1 characters, with no space first, last or next to another.
        public let key: String
        /// Any characters but U+0000.
        public let value: String

        /// A text by its key.
        public init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }
}

extension PNG.Text {
    /// A text as it was read.
    init(chunk: nibble_png_text) {
        let bytes = UnsafeRawBufferPointer(start: chunk.text, count: chunk.length)
        let key = UnsafeRawBufferPointer(start: chunk.key, count: strlen(chunk.key))
        self.init(
            key: String(latin1: key),
            value: chunk.is_utf8 ? String(decoding: bytes, as: UTF8.self) : String(latin1: bytes))
    }

    /// The rules for keys of the specification's section 11.3.4.2.
    fileprivate static func isKey(_ bytes: [UInt8]) -> Bool {
        let space = UInt8(ascii: " ")
        let printable = bytes.allSatisfy { (32...126).contains($0) || $0 >= 161 }
        let doubled = zip(bytes, bytes.dropFirst()).contains { $0 == space && $1 == space }
        return (1...79).contains(bytes.count) && printable && !doubled && bytes.first != space && bytes.last != space
    }
}

/// Texts as they go into a file: all keys and values in one array, each closed by a zero, and where they begin in it.
struct PNGTextChunks {
    private var bytes: [CChar] = []
    private var places: [(key: Int, value: Int, valueLength: Int, isUTF8: Bool)] = []

    init(_ texts: [PNG.Text]) throws(ImageError) {
        for text in texts { try append(text) }
    }

    private mutating func append(_ text: PNG.Text) throws(ImageError) {
        guard let key = text.key.latin1, PNG.Text.isKey(key) else {
            throw .unstorableText(
                key: text.key, reason: "a key is 1 to 79 printable Latin-1 characters, with single spaces only inside")
        }
        guard !text.value.unicodeScalars.contains("\0") else {
            throw .unstorableText(key: text.key, reason: "it contains the character U+0000")
        }
        let latin1 = text.value.latin1
        let value = latin1 ?? Array(text.value.utf8)
        places.append((bytes.count, bytes.count + key.count + 1, value.count, isUTF8: latin1 == nil))
        for string in [key, value] { bytes += string.map(CChar.init(bitPattern:)) + [0] }
    }

    /// Calls `body` with the texts in C's form, valid only until it returns.
    func withPointers<Result>(_ body: ([nibble_png_text]) -> Result) -> Result {
        bytes.withUnsafeBufferPointer { bytes in
            guard let base = bytes.baseAddress else { return body([]) }
            return body(
                places.map { place in
                    nibble_png_text(
                        key: base + place.key, text: base + place.value, length: place.valueLength,
                        is_utf8: place.isUTF8)
                })
        }
    }
}

extension String {
    /// The characters as Latin-1, or nil where one is not.
    fileprivate var latin1: [UInt8]? {
        let bytes = unicodeScalars.compactMap { UInt8(exactly: $0.value) }
        return bytes.count == unicodeScalars.count ? bytes : nil
    }

    /// Latin-1's bytes are the first 256 Unicode scalars.
    fileprivate init(latin1 bytes: UnsafeRawBufferPointer) {
        var scalars = UnicodeScalarView()
        for byte in bytes { scalars.append(Unicode.Scalar(byte)) }
        self.init(scalars)
    }
}
