import Foundation
import NibbleTensors
import Testing

@testable import NibbleCheckpoints

/// Thousands of damaged files: each opens or gives a `CheckpointError`, and one that opens hands out no byte beyond its
/// end. Deterministic: the same damage at every run.
@Suite struct SafetensorsMutationTests {
    private static let names = (0..<4).map { "layer.\($0).weight" }

    /// Four tensors with metadata, put together here.
    private static var healthy: [UInt8] {
        let entries = names.enumerated().map { index, name in
            "\"\(name)\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[\(index * 16),\(index * 16 + 16)]}"
        }
        let header = #"{"__metadata__":{"format":"pt","note":"é\n"},"# + entries.joined(separator: ",") + "}"
        return safetensors(header, data: [UInt8](0..<64))
    }

    /// Opens bytes as a file and touches every tensor; gives whether that went well.
    private func survives(_ bytes: [UInt8], in folder: TemporaryFolder) throws -> Bool {
        let path = try folder.write("mutant.safetensors", bytes)
        do throws(CheckpointError) {
            let file = try SafetensorsFile(path)
            var total = 0
            for name in file.tensorNames {
                let tensor = try file.tensor(name)
                total += tensor.copiedBytes.count
            }
            #expect(total <= bytes.count)
            _ = try? Inspection(path).verify(on: ThreadPool(threadCount: 1))
            return true
        } catch {
            #expect(!error.description.isEmpty)
            return false
        }
    }

    @Test func healthyFileOpens() throws {
        #expect(try survives(Self.healthy, in: TemporaryFolder()))
    }

    @Test func everyTruncationIsRefused() throws {
        let folder = try TemporaryFolder()
        let bytes = Self.healthy
        for count in 0..<bytes.count { #expect(try !survives(Array(bytes[..<count]), in: folder)) }
    }

    @Test func bytesChanged() throws {
        let folder = try TemporaryFolder()
        var generator = TestGenerator(seed: 1)
        let healthy = Self.healthy
        let headerEnd = healthy.count - 64
        // Every bit of the length and the header once, then several bytes at random.
        for position in 0..<headerEnd {
            for bit in 0..<8 {
                var bytes = healthy
                bytes[position] ^= 1 << bit
                _ = try survives(bytes, in: folder)
            }
        }
        for _ in 0..<3000 {
            var bytes = healthy
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: 0..<headerEnd, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            _ = try survives(bytes, in: folder)
        }
    }

    /// Pieces of JSON inserted, removed and doubled, with the length put right so that the damage is read.
    @Test func piecesChanged() throws {
        let folder = try TemporaryFolder()
        var generator = TestGenerator(seed: 2)
        let pieces = [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "-", "0", "99999999999999999999", "1e9", "null",
            "[[[[", "\u{0}", "\"dtype\":\"F64\",", "4611686018427387904", "18446744073709551615",
        ].map { Array($0.utf8) }
        let header = Array(Self.healthy.dropFirst(8).dropLast(64))
        for _ in 0..<5000 {
            var text = header
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let at = Int.random(in: 0..<text.count, using: &generator)
                let end = min(text.count, at + Int.random(in: 0...6, using: &generator))
                let piece = pieces[Int.random(in: 0..<pieces.count, using: &generator)]
                text.replaceSubrange(at..<end, with: Bool.random(using: &generator) ? piece : [])
            }
            let length = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) }
            _ = try survives(length + text + [UInt8](0..<64), in: folder)
        }
    }
}
