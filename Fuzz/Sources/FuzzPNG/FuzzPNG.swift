internal import Foundation
internal import NibbleImages

/// The input as a PNG, with its checksums set right, so that damage gets past them. What was read must come back from
/// a file of our own.
@_cdecl("LLVMFuzzerTestOneInput")
func readPNG(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let file = Data(withRightChecksums(Array(UnsafeBufferPointer(start: bytes, count: count))))
    guard let contents = try? PNG.decode(file) else { return 0 }
    // Packing a large picture takes long and finds nothing that a small one does not.
    guard contents.bitmap.pixels.count < 1 << 16 else { return 0 }
    do throws(ImageError) {
        let again = try PNG.decode(PNG.encode(contents.bitmap, texts: contents.texts))
        precondition(again == contents, "the picture changed when it was written and read")
    } catch .unstorableText {
        // libpng reads keys that the specification forbids.
    } catch {
        preconditionFailure("a picture that was read cannot be written: \(error)")
    }
    return 0
}

/// A chunk is its length, its type, its data and the checksum of type and data (specification, section 5.3).
private func withRightChecksums(_ file: [UInt8]) -> [UInt8] {
    var file = file
    var start = 8
    while start + 12 <= file.count {
        let length = file[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
        let end = start + 8 + length
        guard end + 4 <= file.count else { break }
        let checksum = ~file[start + 4..<end].reduce(~UInt32(0)) {
            table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] ^ $0 >> 8
        }
        for index in 0..<4 { file[end + index] = UInt8(truncatingIfNeeded: checksum >> (24 - 8 * index)) }
        start = end + 4
    }
    return file
}

/// CRC-32 by bytes (specification, annex D).
private let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { sum, _ in sum & 1 == 1 ? 0xEDB8_8320 ^ sum >> 1 : sum >> 1 }
}
