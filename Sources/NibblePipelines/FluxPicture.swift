public import NibbleImages

/// A picture and how it was made.
public struct FluxPicture: Sendable {
    /// The pixels.
    public let bitmap: Bitmap
    /// How it was made.
    public let record: GenerationRecord

    /// The texts that a PNG of it carries: A1111's `parameters`, and `nibble`, from which `generate --like` makes it again.
    ///
    /// - Throws: `MetadataError`, for a prompt too long to be recorded.
    public func texts() throws(MetadataError) -> [PNG.Text] {
        [
            PNG.Text(key: InfoText.textKey, value: InfoText(record).text),
            PNG.Text(key: GenerationRecord.textKey, value: try record.json()),
        ]
    }

    /// Writes it as PNG with its texts: beside the path first, then renamed.
    ///
    /// - Parameter path: the file.
    /// - Throws: `MetadataError`, or `ImageError` where the file cannot be written.
    public func write(to path: String) throws {
        try PNG.write(bitmap, texts: try texts(), to: path)
    }
}
