import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// A 4-bit checkpoint presented as an ordinary model, against a step that torch computed with its weights.
@Suite struct Int4DequantizedTests {
    private static let models = GoldenInt4Model.all

    /// The inputs are those of the first case of the model that was quantized.
    private static func firstCase(of model: GoldenInt4Model) throws -> GoldenTensors {
        let original = try #require(model.original)
        let first = try #require(GoldenCase.all(of: original).first)
        return try GoldenTensors(original.appending(path: "golden/\(first.file)"))
    }

    @Test(.enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models)
    func `a step with dequantized weights is torch's`(_ quantized: GoldenInt4Model) throws {
        let checkpoint = try NunchakuCheckpoint(quantized.file)
        let text = try #require(checkpoint.metadata["config"])
        let config = try JSONDecoder().decode(FluxConfig.self, from: Data(text.utf8))
        let source = DequantizedFluxCheckpoint(checkpoint, dtype: .float32, on: ThreadPool(threadCount: 2))
        let model = try FluxTransformer(config, weights: WeightReader(source))
        let golden = try GoldenTensors(quantized.folder.appending(path: "step.safetensors"))
        let compute = Compute(precision: .f32)
        var compared: Set<String> = []
        compute.observer = { name, activation in
            let name = "dequant.\(name)"
            guard golden.names.contains(name), let expected = try? golden.floats(name) else { return }
            compared.insert(name)
            let difference = maximumDifference(activation, expected)
            #expect(difference <= FluxTransformerTests.tolerance, "\(name) differs by \(difference)")
        }
        let inputs = try FluxTransformerTests.inputs(try Self.firstCase(of: quantized), config)
        let prediction = FluxTransformerTests.predict(model, inputs, on: compute)
        let difference = maximumDifference(prediction, try golden.floats("dequant.noise_pred"))
        #expect(difference <= FluxTransformerTests.tolerance, "the prediction differs by \(difference)")
        let stored = golden.names.filter { $0.hasPrefix("dequant.") && $0 != "dequant.noise_pred" }
        #expect(compared == stored && !stored.isEmpty)
    }
}
