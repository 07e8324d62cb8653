import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// A 4-bit checkpoint presented as an ordinary model, against a step that torch computed with its weights.
@Suite struct Int4DequantizedTests {
    /// The folders `svdq-*` that hold a step.
    private static let models: [URL] = Goldens.roots.flatMap { root in
        ((try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []).filter { $0.hasPrefix("svdq-") }
            .sorted().map { root.appending(path: $0) }
            .filter { FileManager.default.fileExists(atPath: $0.appending(path: "step.safetensors").path) }
    }

    /// The inputs are those of the first case of the model that was quantized, which lies inside or beside.
    private static func firstCase(of folder: URL) throws -> GoldenTensors {
        let beside = folder.deletingLastPathComponent().appending(path: "flux-tiny")
        let model = try #require([folder, beside].first { !GoldenCase.all(of: $0).isEmpty })
        let first = try #require(GoldenCase.all(of: model).first)
        return try GoldenTensors(model.appending(path: "golden/\(first.file)"))
    }

    private static func checkpoint(_ folder: URL) throws -> NunchakuCheckpoint {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        let name = try #require(names.first { $0.hasPrefix("svdq-") && $0.hasSuffix(".safetensors") })
        return try NunchakuCheckpoint(folder.appending(path: name).path)
    }

    @Test(.enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models)
    func `a step with dequantized weights is torch's`(_ folder: URL) throws {
        let checkpoint = try Self.checkpoint(folder)
        let text = try #require(checkpoint.metadata["config"])
        let config = try JSONDecoder().decode(FluxConfig.self, from: Data(text.utf8))
        let source = DequantizedFluxCheckpoint(checkpoint, dtype: .float32, on: ThreadPool(threadCount: 2))
        let model = try FluxTransformer(config, weights: WeightReader(source))
        let golden = try GoldenTensors(folder.appending(path: "step.safetensors"))
        let compute = Compute(precision: .f32)
        var compared: Set<String> = []
        compute.observer = { name, activation in
            let name = "dequant.\(name)"
            guard golden.names.contains(name), let expected = try? golden.floats(name) else { return }
            compared.insert(name)
            let difference = maximumDifference(activation, expected)
            #expect(difference <= FluxTransformerTests.tolerance, "\(name) differs by \(difference)")
        }
        let inputs = try FluxTransformerTests.inputs(try Self.firstCase(of: folder), config)
        let prediction = FluxTransformerTests.predict(model, inputs, on: compute)
        let difference = maximumDifference(prediction, try golden.floats("dequant.noise_pred"))
        #expect(difference <= FluxTransformerTests.tolerance, "the prediction differs by \(difference)")
        let stored = golden.names.filter { $0.hasPrefix("dequant.") && $0 != "dequant.noise_pred" }
        #expect(compared == stored && !stored.isEmpty)
    }
}
