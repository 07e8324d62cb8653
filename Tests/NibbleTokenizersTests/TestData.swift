import Foundation
import NibbleTestSupport
import Testing

@testable import NibbleTokenizers

/// The project's own fixtures; Fixtures/RECIPE.md says how they were made.
enum Fixtures {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")
    static let emojiModel = Goldens.repository.appending(path: "Models/flux-emoji")

    static func contents(_ name: String) throws -> Data {
        try Data(contentsOf: folder.appending(path: name))
    }
}

/// The real vocabularies, which lie beside the repository and are not part of it.
enum RealVocabularies {
    static let folder = Goldens.repository.deletingLastPathComponent().appending(path: "shared/data/tokenizers")
    static let exist = FileManager.default.fileExists(atPath: folder.appending(path: "golden.json").path)

    struct Golden: Decodable {
        struct Case: Decodable {
            let prompt: String
            let clip: [Int32]
            let t5: [Int32]
        }
        let cases: [Case]
    }

    static func golden() throws -> [Golden.Case] {
        let contents = try Data(contentsOf: folder.appending(path: "golden.json"))
        return try JSONDecoder().decode(Golden.self, from: contents).cases
    }
}

/// A folder that is removed when the test is over.
final class TemporaryFolder {
    let url = FileManager.default.temporaryDirectory.appending(path: "nibble-tokenizers-\(UUID().uuidString)")

    init(_ files: [String: Data] = [:]) throws {
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        for (name, contents) in files { try contents.write(to: url.appending(path: name)) }
    }

    deinit {
        try? FileManager.default.removeItem(at: url)
    }
}

/// Reads 64-bit integer tensors of a safetensors file: a little-endian u64 length, a JSON header, the data.
struct IntegerTensors {
    private struct Entry: Decodable {
        let dtype: String
        let offsets: [Int]

        private enum CodingKeys: String, CodingKey {
            case dtype
            case offsets = "data_offsets"
        }
    }

    private struct UnknownType: Error { let name: String }

    private let contents: Data
    private let header: [String: Entry]
    private let dataStart: Int

    init(_ url: URL) throws {
        contents = try Data(contentsOf: url)
        let length = contents.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        dataStart = 8 + length
        let json = try JSONSerialization.jsonObject(with: contents[8..<dataStart]) as? [String: Any] ?? [:]
        let tensors = try JSONSerialization.data(withJSONObject: json.filter { $0.key != "__metadata__" })
        header = try JSONDecoder().decode([String: Entry].self, from: tensors)
    }

    func values(_ name: String) throws -> [Int32] {
        let entry = try #require(header[name])
        let width = try #require(["I64": 8, "I32": 4][entry.dtype])
        return stride(from: dataStart + entry.offsets[0], to: dataStart + entry.offsets[1], by: width).map { start in
            contents[start..<(start + 4)].reversed().reduce(0) { $0 << 8 | Int32($1) }
        }
    }
}

/// A small generator of repeatable random numbers (Steele et al. 2014, SplitMix64).
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
