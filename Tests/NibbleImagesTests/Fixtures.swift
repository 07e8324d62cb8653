internal import Foundation
internal import NibbleImages
internal import NibbleTestSupport
internal import Testing

/// The pictures of `Tests/Fixtures/images`, which RECIPE.md there describes.
enum Fixtures {
    static let kinds: [PictureFixture] = load("kinds.json")
    static let texts: [TextFixture] = [load("texts.json")]
    static let hostile: [HostileFixture] = load("hostile.json")

    private static func load<Value: Decodable>(_ name: String) -> Value {
        let file = Goldens.repository.appending(path: "Tests/Fixtures/images/\(name)")
        do {
            return try JSONDecoder().decode(Value.self, from: Data(contentsOf: file))
        } catch {
            preconditionFailure("\(file.path): \(error)")
        }
    }
}

struct PictureFixture: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let width: Int
    let height: Int
    let tolerance: Int
    let png: Data
    let rgb: Data

    var testDescription: String { name }
}

struct TextFixture: Decodable, Sendable, CustomTestStringConvertible {
    struct Text: Decodable, Sendable {
        let key: String
        let value: String
    }

    let width: Int
    let height: Int
    let png: Data
    let rgb: Data
    let texts: [Text]

    var testDescription: String { "\(texts.count) texts" }
}

struct HostileFixture: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let error: String
    let png: Data

    var testDescription: String { name }
}

/// A folder that is removed with its contents at the end of a test.
final class TemporaryFolder {
    let url = FileManager.default.temporaryDirectory.appending(path: "nibble-images-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false) }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appending(path: name).path }

    var contents: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []).sorted() }
}

/// A picture with no two rows or channels alike.
func pattern(width: Int, height: Int) -> Bitmap {
    let pixels = (0..<width * height * 3).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 / 7 &* 11) }
    return Bitmap(width: width, height: height, pixels: pixels)
}

extension ImageError {
    /// The case's name.
    var kind: String { Mirror(reflecting: self).children.first?.label ?? "" }
}
