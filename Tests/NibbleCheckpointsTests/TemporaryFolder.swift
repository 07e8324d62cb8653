import Foundation
import NibbleTensors

/// A folder that is gone after the test.
final class TemporaryFolder {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "nibble-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Names in the folder, hidden ones too.
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }

    /// Writes a file and gives its path.
    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let url = URL(filePath: path).appending(path: name)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        // Not Data.write(to:), which waits for the disk.
        let file = fopen(url.path, "w")
        defer { if let file { fclose(file) } }
        guard let file, fwrite(bytes, 1, bytes.count, file) == bytes.count else { throw POSIXError(.EIO) }
        return url.path
    }

    @discardableResult
    func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }
}

/// A safetensors file put together by hand.
func safetensors(_ header: String, data: [UInt8] = []) -> [UInt8] {
    let text = Array(header.utf8)
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text + data
}

extension Tensor {
    /// A copy of the bytes, which a test may keep longer than the tensor.
    var copiedBytes: [UInt8] { Array(bytes) }

    /// A copy of the elements; `Element` must be what the type says.
    func elements<Element>(_: Element.Type) -> [Element] { Array(bytes.bindMemory(to: Element.self)) }
}

/// A deterministic source of bytes: Knuth's MMIX generator, upper half.
struct TestGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        var result: UInt64 = 0
        for _ in 0..<2 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            result = result << 32 | state >> 32
        }
        return result
    }
}
