import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Checkpoints in another form.
@Suite(.enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"))
struct Int4ConversionTests {
    private let folder: TemporaryFolder
    private let pool = ThreadPool(threadCount: 2)

    init() throws { folder = try TemporaryFolder() }

    /// The single file and the legacy folder both become the single file: the same data in the same order, and equal
    /// metadata (whose order is free).
    @Test(arguments: GoldenInt4Model.all) func writtenAgain(_ model: GoldenInt4Model) throws {
        let original = try SafetensorsFile(model.file)
        for path in [model.file, model.legacy] {
            let target = folder.path + "/copy.safetensors"
            var last = (0, 0)
            try NunchakuCheckpoint(path).writeNunchaku(to: target, on: pool) { last = ($0, $1) }
            let copy = try SafetensorsFile(target)
            #expect(copy.metadata == original.metadata)
            #expect(copy.entries.map(\.name) == original.entries.map(\.name))
            for entry in original.entries {
                let (found, expected) = (try copy.tensor(entry.name), try original.tensor(entry.name))
                #expect(found.dtype == expected.dtype && found.shape == expected.shape, "\(entry.name)")
                #expect(found.copiedBytes == expected.copiedBytes, "\(entry.name)")
            }
            #expect(last.0 == last.1 && last.1 == original.entries.reduce(0) { $0 + $1.byteRange.count })
        }
    }

    @Test(arguments: GoldenInt4Model.all) func stoppedInTheMiddle(_ model: GoldenInt4Model) throws {
        let checkpoint = try NunchakuCheckpoint(model.file)
        let target = folder.path + "/copy.safetensors"
        func stop(_ done: Int, _: Int) throws { if done > 0 { throw CancellationError() } }
        #expect(throws: CancellationError.self) { try checkpoint.writeNunchaku(to: target, on: pool, progress: stop) }
        #expect(throws: CancellationError.self) {
            try DequantizedFluxCheckpoint(checkpoint, on: pool).write(to: target, progress: stop)
        }
        #expect(folder.names.isEmpty)
    }

    /// W v of every layer, in f64, for the v of the goldens.
    @Test(arguments: GoldenInt4Model.all) func effectiveWeights(_ model: GoldenInt4Model) throws {
        let golden = try model.logical()
        let checkpoint = try NunchakuCheckpoint(model.file)
        for layer in checkpoint.layers {
            let weight = Tensor(zeros: [layer.outputs, layer.inputs], .float32)
            switch layer.kind {
            case .w4a4, .w4a8: try checkpoint.weights(layer).writeEffectiveWeight(into: weight, on: pool)
            case .w4a16: try checkpoint.modulation(layer).writeEffectiveWeight(into: weight, on: pool)
            }
            let values = weight.floats()
            let found = (0..<layer.outputs).map { row in
                Float(
                    (0..<layer.inputs).reduce(0.0) { sum, column in
                        let probe = Double((37 * column) % 101 - 50) / 50
                        return sum + Double(values[row * layer.inputs + column]) * probe
                    })
            }
            // The goldens' README: an f32 weight is off by 1e-7 of itself, and a sum of some hundred by less than this.
            let difference = maximumDifference(found, try golden.floats("\(layer.name).effective_probe"))
            #expect(difference <= 1e-5, "\(layer.name) differs by \(difference)")
            if golden.names.contains("\(layer.name).weight_effective") {
                let whole = maximumDifference(values, try golden.floats("\(layer.name).weight_effective"))
                #expect(whole <= 1e-6, "\(layer.name) differs by \(whole)")
            }
        }
    }

    /// The bias of a shifted layer comes back as what the original had, but for what the quantized weights' row sums
    /// differ by from the original's, which the file was made with.
    @Test(arguments: GoldenInt4Model.all) func biasesWithoutShift(_ model: GoldenInt4Model) throws {
        let golden = try model.logical()
        let checkpoint = try NunchakuCheckpoint(model.file)
        for layer in checkpoint.layers {
            guard case .w4a4 = layer.kind else { continue }
            let weights = try checkpoint.weights(layer)
            let stored = weights.bias.floats()
            let found = weights.effectiveBias(shift: layer.shift)
            let original = try golden.floats("\(layer.name).bias_orig")
            guard layer.shift != 0 else {
                #expect(found == original, "\(layer.name)")
                continue
            }
            let values = (try golden.floats("\(layer.name).q"), weights.scales.floats(), weights.smooth.floats())
            for row in found.indices {
                var sum = 0.0
                for column in 0..<layer.inputs {
                    let code = Double(values.0[row * layer.inputs + column])
                    let scale = Double(values.1[row * layer.inputs / 64 + column / 64])
                    sum += code * scale / Double(values.2[column])
                }
                let expected = Double(stored[row]) + 0.171875 * sum
                #expect(abs(Double(found[row]) - expected) <= 1e-6, "\(layer.name), output \(row)")
            }
            // Without undoing the shift the biases are far off; with it, they are near.
            #expect(relativeError(found, original) < relativeError(stored, original))
        }
    }

    @Test(arguments: GoldenInt4Model.all) func dequantizedNamesAndShapes(_ model: GoldenInt4Model) throws {
        let checkpoint = try NunchakuCheckpoint(model.file)
        let target = folder.path + "/model"
        try DequantizedFluxCheckpoint(checkpoint, on: pool).write(to: target)
        #expect(Set(folder.names) == ["model"])
        let written = try Checkpoint.open(target)
        let dimensions = try FluxDimensions(of: written)
        let sizes = checkpoint.sizes
        #expect(dimensions.numLayers == sizes.doubleBlocks && dimensions.numSingleLayers == sizes.singleBlocks)
        #expect(dimensions.hidden == sizes.hidden && dimensions.headDim == sizes.headDim)
        #expect(try decodeConfiguration(target + "/config.json", as: Int4FluxSizes.self) == sizes)
        let exact = DequantizedFluxCheckpoint(checkpoint, dtype: .float32, on: pool)
        #expect(written.tensorNames == exact.tensorNames)
        for name in written.tensorNames {
            let (rounded, full) = (try written.tensor(name), try exact.tensor(name))
            #expect(rounded.dtype == .bfloat16 && rounded.shape == full.shape)
            #expect(rounded.floats() == full.floats().map(\.roundedToBFloat16), "\(name)")
        }
        // The unquantized model beside it has the same names and shapes.
        guard let original = model.original?.appending(path: "model/transformer").path else { return }
        let plain = try Checkpoint.open(original)
        #expect(plain.tensorNames == written.tensorNames)
        for name in plain.tensorNames.intersection(written.tensorNames) {
            #expect(try plain.tensor(name).shape == written.tensor(name).shape, "\(name)")
        }
    }

    /// The layers of the form for diffusers mean what the dequantized model's do, which the goldens vouch for. Keys,
    /// shapes and the description are those of diffusers' `SVDQW4A4Linear`, `AWQW4A16Linear` and its quantizer.
    @Test(arguments: GoldenInt4Model.all) func nunchakuLite(_ model: GoldenInt4Model) throws {
        struct Targets: Decodable {
            let precision: String
            let group_size: Int
            let rank: Int?
            let targets: [String]
        }
        struct Config: Decodable {
            struct Quantization: Decodable {
                let quant_method: String
                let svdq_w4a4, awq_w4a16: Targets
            }
            let quantization_config: Quantization
        }
        let checkpoint = try NunchakuCheckpoint(model.file)
        let target = folder.path + "/lite"
        try checkpoint.writeLite(to: target, on: pool)
        let config = try decodeConfiguration(target + "/config.json", as: Config.self).quantization_config
        #expect(config.quant_method == "nunchaku_lite" && config.svdq_w4a4.group_size == 64)
        #expect(try decodeConfiguration(target + "/config.json", as: Int4FluxSizes.self) == checkpoint.sizes)
        let rank = try #require(config.svdq_w4a4.rank)
        let file = try SafetensorsFile(target + "/diffusion_pytorch_model.safetensors")
        // It is said to be what it is where the engine's own form is asked for.
        guard
            case .wrongFormat(_, let found, _)? =
                #expect(throws: CheckpointError.self, performing: { try NunchakuCheckpoint(file.location) }),
            found.contains("Nunchaku Lite")
        else {
            Issue.record("no error of a Nunchaku Lite file")
            return
        }
        let plain = DequantizedFluxCheckpoint(checkpoint, dtype: .float32, on: pool)
        var names: Set<String> = []
        for layer in config.svdq_w4a4.targets {
            let weights = try Int4Weights { key throws(CheckpointError) in
                let keys = [
                    "smooth": "smooth_factor", "smooth_orig": "smooth_factor", "lora_down": "proj_down",
                    "lora_up": "proj_up",
                ]
                names.insert("\(layer).\(keys[key] ?? key)")
                return try file.tensor("\(layer).\(keys[key] ?? key)")
            }
            #expect(weights.rank == rank && weights.fault() == nil)
            let found = Tensor(zeros: [weights.outputs, weights.inputs], .float32)
            weights.writeEffectiveWeight(into: found, on: pool)
            #expect(found.floats() == (try plain.tensor("\(layer).weight").floats()), "\(layer)")
            let bias = try plain.tensor("\(layer).bias").floats().map(\.roundedToBFloat16)
            #expect(weights.bias.floats() == bias, "\(layer)")
        }
        for layer in config.awq_w4a16.targets {
            let weights = try Int4ModulationWeights(splits: 1) { key throws(CheckpointError) in
                names.insert("\(layer).\(key)")
                return try file.tensor("\(layer).\(key)")
            }
            #expect(try file.tensor("\(layer).wscales").shape == [weights.inputs / 64, weights.outputs])
            let found = Tensor(zeros: [weights.outputs, weights.inputs], .float32)
            weights.writeEffectiveWeight(into: found, on: pool)
            #expect(found.floats() == (try plain.tensor("\(layer).weight").floats()), "\(layer)")
            let bias = try plain.tensor("\(layer).bias").floats().map(\.roundedToBFloat16)
            #expect(weights.originalBias() == bias, "\(layer)")
        }
        let quantized = config.svdq_w4a4.targets + config.awq_w4a16.targets
        let rest = plain.tensorNames.subtracting(quantized.flatMap { ["\($0).weight", "\($0).bias"] })
        #expect(file.tensorNames == names.union(rest))
        for name in rest { #expect(try file.tensor(name).copiedBytes == plain.tensor(name).copiedBytes) }
    }
}
