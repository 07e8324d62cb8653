import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// A 4-bit checkpoint, presented as an ordinary model and run as it is, against steps that torch computed with its weights.
@Suite struct Int4TransformerTests {
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

    /// Relative differences from torch. A last bit of an input turns codes over, and one code moved a prediction by up to
    /// 8e-3 in 4 bits and 3e-3 in 8 (step.json); the goldens' README takes twice that.
    private static let tolerances = [ActivationBits.int4: 2e-2, .int8: 6e-3]

    @Test(
        .enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models,
        ActivationBits.allCases)
    func `a step of 4-bit layers is torch's`(_ quantized: GoldenInt4Model, _ bits: ActivationBits) throws {
        let checkpoint = try NunchakuCheckpoint(quantized.file)
        let text = try #require(checkpoint.metadata["config"])
        let config = try JSONDecoder().decode(FluxConfig.self, from: Data(text.utf8))
        let model = try FluxTransformer(config, quantized: checkpoint)
        let golden = try GoldenTensors(quantized.folder.appending(path: "step.safetensors"))
        let way = bits == .int4 ? "w4a4" : "w4a8"
        let tolerance = try #require(Self.tolerances[bits])
        let inputs = try FluxTransformerTests.inputs(try Self.firstCase(of: quantized), config)
        var predictions: [[Float]] = []
        for threads in [1, 2] {
            let compute = Compute(
                precision: .f32, activationBits: bits, pool: ThreadPool(threadCount: threads))
            compute.observer = { name, activation in
                guard let expected = try? golden.floats("\(way).\(name)") else { return }
                let error = relativeError(activation.floats(), expected)
                #expect(error <= tolerance, "\(way).\(name) differs by \(error) of its norm")
            }
            predictions.append(FluxTransformerTests.predict(model, inputs, on: compute))
        }
        #expect(predictions[0] == predictions[1])
        let error = relativeError(predictions[0], try golden.floats("\(way).noise_pred"))
        #expect(error <= tolerance, "the prediction differs by \(error) of its norm")
        // Against the model that was quantized: as far off as torch's own run of the file, within 15 % (README).
        let ways = try JSONSerialization.jsonObject(
            with: Data(contentsOf: quantized.folder.appending(path: "step.json"))) as? [String: Any]
        let stated = try #require((ways?[way] as? [String: Any])?["noise_pred_rel_error_to_full"] as? Double)
        let fullError = relativeError(predictions[0], try golden.floats("full.noise_pred"))
        #expect(abs(fullError / stated - 1) <= 0.15, "\(fullError) from the original, torch \(stated)")
        print("\(quantized) \(way): \(error) from torch, \(fullError) from the original (torch \(stated))")
    }

    @Test(.enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models)
    func `the single file and the legacy folder give the same bytes`(_ quantized: GoldenInt4Model) throws {
        let predictions = try [quantized.file, quantized.legacy].map { path in
            let checkpoint = try NunchakuCheckpoint(path)
            let text = try #require(checkpoint.metadata["config"])
            let config = try JSONDecoder().decode(FluxConfig.self, from: Data(text.utf8))
            let inputs = try FluxTransformerTests.inputs(try Self.firstCase(of: quantized), config)
            return FluxTransformerTests.predict(
                try FluxTransformer(config, quantized: checkpoint), inputs, on: Compute(precision: .bf16))
        }
        #expect(predictions[0] == predictions[1])
    }
}
