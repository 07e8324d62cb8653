import Foundation
import NibbleImages
import NibblePipelines
import Testing

/// The library as its documentation says to use it.
@Suite struct LibraryTests {
    @Test func `the example of FluxPipeline draws a picture`() async throws {
        let scratch = try Scratch()
        let (model, output) = (Drawing.model, scratch.path("apple.png"))
        // The lines of the documentation but for the two paths.
        let pipeline = try FluxPipeline(model: model)
        for try await event in pipeline(FluxRequest(prompt: "red apple", seed: 7)) {
            if case .picture(let picture) = event { try picture.write(to: output) }
        }
        #expect(try PNG.read(output).bitmap.width > 0)
    }

    @Test func `the example is the one in the documentation`() throws {
        let source = URL(filePath: #filePath)
        let root = source.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let documented = try String(
            contentsOf: root.appending(path: "Sources/NibblePipelines/FluxPipeline.swift"), encoding: .utf8)
        let example = documented.split(separator: "\n").filter { $0.hasPrefix("///     ") }
            .map { $0.dropFirst(3).trimmingCharacters(in: .whitespaces) }
            .map { $0.replacing("\"Models/flux-emoji\"", with: "model").replacing("\"apple.png\"", with: "output") }
        let here = try String(contentsOf: source, encoding: .utf8).split(separator: "\n")
            .map { $0.trimmingCharacters(in: .whitespaces) }
        #expect(!example.isEmpty && here.joined(separator: "\n").contains(example.joined(separator: "\n")))
    }
}
