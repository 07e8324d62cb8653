import Foundation
import NibbleImages
import NibbleTestSupport

/// The shortest pictures that the tests draw.
enum Drawing {
    /// The model that comes with the repository.
    static let model = Goldens.repository.appending(path: "Models/flux-emoji").path

    /// `generate` with a small picture of few steps; options given twice count the last time.
    static func arguments(_ prompt: String = "red apple", model: String = model, _ options: String...) -> [String] {
        [
            "generate", prompt, "--model", model, "--seed", "7", "--steps", "1", "--width", "16", "--height", "16",
            "--max-sequence-length", "8",
        ] + options
    }

    /// The bytes of a file.
    static func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }

    /// The texts of a PNG by their keys.
    static func texts(_ path: String) throws -> [String: String] {
        Dictionary(try PNG.read(path).texts.map { ($0.key, $0.value) }) { first, _ in first }
    }
}
