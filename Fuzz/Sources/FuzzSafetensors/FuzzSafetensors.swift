internal import NibbleTensors

@testable internal import NibbleCheckpoints

/// The input as a safetensors file in memory, so that reading past its end is seen.
@_cdecl("LLVMFuzzerTestOneInput")
func readSafetensors(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let file = UnsafeRawBufferPointer(start: bytes, count: count)
    guard let header = try? SafetensorsHeader(file, path: "input.safetensors") else { return 0 }
    for entry in header.entries {
        precondition(entry.byteRange.upperBound <= count, "\(entry.name) ends outside the file")
        precondition(
            entry.shape.elementCount * entry.dtype.byteSize == entry.byteRange.count, "\(entry.name) has another size")
    }
    // What a 4-bit transformer says of itself.
    if let metadata = try? Int4Metadata(header.metadata, path: "input.safetensors") {
        _ = try? metadata.schema(path: "input.safetensors")
    }
    return 0
}
