internal import CNibbleSystem

public import struct Foundation.Data

/// Portable Network Graphics (ISO/IEC 15948:2003), through libpng.
public enum PNG {
    /// The longest side of a picture that is read or written.
    public static let maximumSide = Int(NIBBLE_PNG_MAX_SIDE)
    /// The most pixels that are read or written, 8192². Each takes 3 bytes in memory, and up to 7 while a file is read.
    public static let maximumPixelCount = Int(NIBBLE_PNG_MAX_PIXELS)

    /// What a file holds.
    public struct Contents: Sendable, Equatable {
        /// The pixels.
        public let bitmap: Bitmap
        /// The texts, in the order of the file. A key may come more than once.
        public let texts: [Text]

        /// The first text of that key.
        public func text(_ key: String) -> String? { texts.first { $0.key == key }?.value }
    }

    /// Reads a PNG of any kind as 8-bit RGB: palettes are looked up, gray is repeated, 16 bits are rounded to 8, and
    /// transparent pixels lie over white. Color profiles are not looked at.
    ///
    /// - Parameters:
    ///   - data: the file's bytes.
    ///   - name: the file, for error messages.
    /// - Returns: the picture and its texts.
    /// - Throws: `ImageError`. A file with any damage is refused, its texts' included.
    public static func decode(_ data: Data, name: String = "the PNG data") throws(ImageError) -> Contents {
        var image = nibble_png_image()
        defer { nibble_png_free_image(&image) }
        let status = data.withUnsafeBytes { bytes in
            nibble_png_decode(bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, &image)
        }
        let (width, height) = (Int(image.width), Int(image.height))
        guard status == NIBBLE_PNG_OK, let pixels = image.pixels else {
            throw error(status, message: text(of: image.message), path: name, width: width, height: height)
        }
        let texts = UnsafeBufferPointer(start: image.texts, count: image.text_count).map(Text.init(chunk:))
        let bytes = Array(UnsafeBufferPointer(start: pixels, count: width * height * 3))
        return Contents(bitmap: Bitmap(width: width, height: height, pixels: bytes), texts: texts)
    }

    /// Writes a picture as 8-bit RGB. A text whose characters are all Latin-1 goes into a tEXt chunk, which every reader
    /// knows; another into an iTXt chunk as UTF-8. Over 1 KiB they are compressed. The same picture and texts give the
    /// same bytes, whenever they are written.
    ///
    /// - Parameters:
    ///   - bitmap: the picture.
    ///   - texts: its texts, which come before the pixels.
    ///   - name: the file, for error messages.
    /// - Returns: the file's bytes.
    /// - Throws: `ImageError.tooLarge` or `.unstorableText`.
    public static func encode(
        _ bitmap: Bitmap, texts: [Text] = [], name: String = "the PNG data"
    ) throws(ImageError) -> Data {
        guard max(bitmap.width, bitmap.height) <= maximumSide, bitmap.width * bitmap.height <= maximumPixelCount else {
            throw .tooLarge(path: name, width: bitmap.width, height: bitmap.height)
        }
        let chunks = try PNGTextChunks(texts)
        var file = nibble_png_file()
        defer { nibble_png_free_file(&file) }
        let status = chunks.withPointers { pointers in
            nibble_png_encode(
                bitmap.pixels, UInt32(bitmap.width), UInt32(bitmap.height), pointers, pointers.count, &file)
        }
        guard status == NIBBLE_PNG_OK, let bytes = file.bytes else {
            throw error(
                status, message: text(of: file.message), path: name, width: bitmap.width, height: bitmap.height)
        }
        return Data(bytes: bytes, count: file.count)
    }

    private static func error(
        _ status: nibble_png_status, message: String, path: String, width: Int, height: Int
    ) -> ImageError {
        switch status {
        case NIBBLE_PNG_NOT_PNG: .notPNG(path: path)
        case NIBBLE_PNG_TRUNCATED: .truncated(path: path, reason: message)
        case NIBBLE_PNG_TOO_LARGE: .tooLarge(path: path, width: width, height: height)
        case NIBBLE_PNG_OUT_OF_MEMORY: .outOfMemory(path: path)
        default: .malformed(path: path, reason: message)
        }
    }

    /// A C array of characters, which Swift sees as a tuple.
    private static func text<Characters>(of message: Characters) -> String {
        withUnsafeBytes(of: message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
