import Foundation
import NibbleImages
import NibblePipelines
import NibbleTestSupport
import Testing

/// The library as its documentation says to use it: the examples stand here once more, where they are compiled and run,
/// and are compared with those in the documentation.
@Suite struct LibraryTests {
    @Test func `the example of FluxPipeline draws a picture`() async throws {
        let scratch = try Scratch()
        let (model, output) = (Drawing.model, scratch.path("apple.png"))
        let pipeline = try FluxPipeline(model: model)
        for try await event in pipeline(FluxRequest(prompt: "red apple", seed: 7)) {
            if case .picture(let picture) = event { try picture.write(to: output) }
        }
        #expect(try PNG.read(output).bitmap.width > 0)
        let comment = try lines("Sources/NibblePipelines/FluxPipeline.swift").filter { $0.hasPrefix("///     ") }
        try expectHere(comment.map { $0.dropFirst(3).trimmingCharacters(in: .whitespaces) })
    }

    @Test func `the example of the README draws a picture`() async throws {
        let scratch = try Scratch()
        let (model, output) = (Drawing.model, scratch.path("apple.png"))
        let pipeline = try FluxPipeline(model: model)
        for try await event in pipeline(FluxRequest(prompt: "red apple", seed: 1)) {
            switch event {
            case .progress(let progress): print(progress.secondsLeft ?? 0, "seconds left")
            case .picture(let picture): try picture.write(to: output)
            default: break
            }
        }
        #expect(try PNG.read(output).bitmap.width > 0)
        let readme = try lines("README.md")
        let start = try #require(readme.firstIndex(of: "```swift"))
        let end = try #require(readme[start...].firstIndex(of: "```"))
        try expectHere(readme[(start + 1)..<end].filter { !$0.hasPrefix("import ") && !$0.isEmpty })
    }

    /// The lines of a file, without the spaces around them.
    private func lines(_ path: String) throws -> [String] {
        try String(contentsOf: Goldens.repository.appending(path: path), encoding: .utf8)
            .split(separator: "\n", omittingEmptySubsequences: false)
            .map { $0.trimmingCharacters(in: .whitespaces) }
    }

    /// Expects the lines of an example in this file, but for the two paths.
    private func expectHere(_ example: [String]) throws {
        let here = example.map {
            $0.replacing("\"Models/flux-emoji\"", with: "model").replacing("\"apple.png\"", with: "output")
        }
        let source = try lines("Tests/CommandLineTests/LibraryTests.swift").joined(separator: "\n")
        #expect(!here.isEmpty && source.contains(here.joined(separator: "\n")), "\(here.joined(separator: "\n"))")
    }
}
