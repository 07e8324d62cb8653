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
        let ways =
            try JSONSerialization.jsonObject(
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

    /// A folder that is gone after the test.
    private final class Scratch {
        let path = NSTemporaryDirectory() + "nibble-" + UUID().uuidString
        init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    private static func prediction(
        _ checkpoint: any Int4Checkpoint, _ quantized: GoldenInt4Model, _ precision: Precision = .bf16,
        _ bits: ActivationBits = .int4
    ) throws -> [Float] {
        let config = try checkpoint.config(as: FluxConfig.self)
        return FluxTransformerTests.predict(
            try FluxTransformer(config, quantized: checkpoint),
            try FluxTransformerTests.inputs(try firstCase(of: quantized), config),
            on: Compute(precision: precision, activationBits: bits))
    }

    @Test(
        .enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models,
        ActivationBits.allCases)
    func `a file and its nibble form give the same bytes`(_ quantized: GoldenInt4Model, _ bits: ActivationBits) throws {
        let scratch = try Scratch()
        let pool = ThreadPool(threadCount: 2)
        let original = try Checkpoint.openInt4(quantized.file)
        try original.writeLite(to: scratch.path + "/lite", on: pool)
        for (index, source) in [original, try Checkpoint.openInt4(scratch.path + "/lite")].enumerated() {
            let target = "\(scratch.path)/\(index).safetensors"
            try source.writeNibble(to: target, on: pool)
            let expected = try Self.prediction(source, quantized, .bf16, bits)
            #expect(try Self.prediction(Checkpoint.openInt4(target), quantized, .bf16, bits) == expected)
        }
    }

    /// In diffusers' cut an input behind a GELU has a sign in 4 bits; in 8 its codes are as fine as the others'. So the 8-bit
    /// run differs from torch's with dequantized weights by about as much as torch's own 8-bit run of the original file.
    @Test(.enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models)
    func `a Nunchaku Lite folder runs`(_ quantized: GoldenInt4Model) throws {
        let scratch = try Scratch()
        try Checkpoint.openInt4(quantized.file).writeLite(to: scratch.path + "/lite", on: ThreadPool(threadCount: 2))
        let found = try Self.prediction(Checkpoint.openInt4(scratch.path + "/lite"), quantized, .f32, .int8)
        let golden = try GoldenTensors(quantized.folder.appending(path: "step.safetensors"))
        let expected = try golden.floats("dequant.noise_pred")
        let error = relativeError(found, expected)
        let torch = relativeError(try golden.floats("w4a8.noise_pred"), expected)
        print("\(quantized) Lite, int8: \(error) from torch's dequantized run, torch's own int8 \(torch)")
        #expect(error <= 2 * torch)
    }

    /// Numbers that float16 holds as bfloat16 does; torch's step of the original file is that of this one too.
    @Test(.enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models)
    func `a checkpoint in float16 runs`(_ quantized: GoldenInt4Model) throws {
        let scratch = try Scratch()
        let file = try SafetensorsFile(quantized.file)
        var tensors: [String: Tensor] = [:]
        for name in file.tensorNames {
            let tensor = try file.tensor(name)
            tensors[name] = tensor
            guard tensor.dtype == .bfloat16 else { continue }
            let copy = Tensor(zeros: tensor.shape, .float16)
            let target = copy.mutableAddress.assumingMemoryBound(to: UInt16.self)
            for (index, value) in tensor.floats().enumerated() { target[index] = Float16(value).bitPattern }
            tensors[name] = copy
        }
        let path = scratch.path + "/float16.safetensors"
        try SafetensorsWriter.write(tensors, to: path, metadata: file.metadata)
        let golden = try GoldenTensors(quantized.folder.appending(path: "step.safetensors"))
        for bits in ActivationBits.allCases {
            let error = relativeError(
                try Self.prediction(Checkpoint.openInt4(path), quantized, .f32, bits),
                try golden.floats("\(bits == .int4 ? "w4a4" : "w4a8").noise_pred"))
            #expect(error <= (try #require(Self.tolerances[bits])), "\(bits): \(error)")
        }
    }

    @Test(.enabled(if: !models.isEmpty, "no svdq-* goldens beside the repository"), arguments: models)
    func `a nibble file is mapped, and a bad scale in it is named afterwards`(_ quantized: GoldenInt4Model) throws {
        let scratch = try Scratch()
        let path = scratch.path + "/nibble.safetensors"
        let original = try Checkpoint.openInt4(quantized.file)
        try original.writeNibble(to: path, on: ThreadPool(threadCount: 2))
        let name = "single_transformer_blocks.0.mlp_fc1.scales"
        let entry = try #require(SafetensorsFile(path).entry(name))
        let handle = try FileHandle(forWritingTo: URL(filePath: path))
        try handle.seek(toOffset: UInt64(entry.byteRange.lowerBound))
        try handle.write(contentsOf: Data([0xc0, 0x7f]))
        try handle.close()
        let checkpoint = try Checkpoint.openInt4(path)
        let config = try checkpoint.config(as: FluxConfig.self)
        let model = try FluxTransformer(config, quantized: checkpoint)
        #expect(model.weights.ownedByteCount == 0)
        // All that the kernels read in place, and what is not quantized.
        let mapped = try SafetensorsFile(path).entries.filter { $0.shape.rank > 1 || !$0.name.contains("_blocks.") }
        #expect(model.weights.mappedWeights.byteCount >= mapped.reduce(0) { $0 + $1.byteRange.count })
        let inputs = try FluxTransformerTests.inputs(try Self.firstCase(of: quantized), config)
        let prediction = FluxTransformerTests.predict(model, inputs, on: Compute(precision: .bf16))
        #expect(prediction.contains { !$0.isFinite })
        #expect(throws: CheckpointError.notFinite(path: path, name: name)) { try model.weights.checkFinite() }
        // The original's layers are in memory of their own.
        let copied = try FluxTransformer(config, quantized: original)
        #expect(copied.weights.ownedByteCount > original.packedByteCount / 10 * 9)
    }
}
