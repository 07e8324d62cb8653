import ArgumentParser
import Foundation
import NibbleCheckpoints
import NibbleTestSupport
import Testing

@testable import nibble

@Suite struct ConvertCommandTests {
    @Test func parses() throws {
        let command = try Nibble.parseAsRoot(["convert", "in", "--to", "dequantized", "-o", "out", "--threads", "2"])
        let convert = try #require(command as? ConvertCommand)
        #expect(convert.input == "in" && convert.to == .dequantized && convert.output == "out" && convert.threads == 2)
    }

    @Test(arguments: [
        ["in", "-o", "out"], ["in", "--to", "gguf", "-o", "out"], ["in", "--to", "nunchaku", "-o", "folder"],
        ["in", "--to", "nibble", "-o", "folder"],
        ["in", "--to", "dequantized", "-o", "out", "--threads", "0"], ["in", "--to", "dequantized"],
    ])
    func refuses(_ arguments: [String]) {
        #expect(throws: (any Error).self) { try Nibble.parseAsRoot(["convert"] + arguments) }
    }

    @Test(
        .enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"),
        arguments: GoldenInt4Model.all)
    func converts(_ model: GoldenInt4Model) async throws {
        let target = FileManager.default.temporaryDirectory.appending(path: "nibble-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: target, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: target) }
        let file = target.appending(path: "model.safetensors").path
        let plain = target.appending(path: "plain").path
        let lite = target.appending(path: "lite").path
        let nibble = target.appending(path: "nibble.safetensors").path
        let runs = [
            (model.legacy, "nunchaku", file), (file, "nibble", nibble), (nibble, "dequantized", plain),
            (nibble, "nunchaku-lite", lite), (lite, "nibble", target.appending(path: "lite.safetensors").path),
        ]
        for (input, form, output) in runs {
            let arguments = ["convert", input, "--to", form, "--output", output, "--quiet"]
            let command = try #require(try Nibble.parseAsRoot(arguments) as? ConvertCommand)
            try await command.run()
        }
        let quantized = try NunchakuCheckpoint(file)
        #expect(quantized.tensorNames == (try NunchakuCheckpoint(model.legacy).tensorNames))
        #expect(try NibbleCheckpoint(nibble).layers == quantized.layers)
        #expect(try Checkpoint.open(lite).tensorNames.contains("single_transformer_blocks.0.proj_out.qweight"))
        #expect(try Checkpoint.open(plain).tensorNames.contains("single_transformer_blocks.0.proj_out.weight"))
    }
}
