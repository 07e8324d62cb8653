import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Single layers that DeepCompressor's converter packed, against what went into it.
@Suite struct Int4WeightsTests {
    private static func files(_ folder: String, _ prefix: String) -> [URL] {
        Goldens.all(folder).flatMap { folder in
            ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
                .filter { $0.hasPrefix(prefix) && $0.hasSuffix(".safetensors") }.map { folder.appending(path: $0) }
        }
    }

    private static let layers = files("w4a4", "layer_")

    @Test(.enabled(if: !layers.isEmpty, "no w4a4 goldens beside the repository"), arguments: layers)
    func layersAreDecoded(_ url: URL) throws {
        let golden = try GoldenTensors(url)
        let file = try SafetensorsFile(url.path)
        for kind in ["s4", "u4"] {
            let weights = try Int4Weights { key throws(CheckpointError) in
                try file.tensor(key == "bias" ? "bias_\(kind)" : key)
            }
            #expect(weights.fault() == nil)
            let parts: [(String, Tensor)] = [
                ("q", weights.codes), ("wscales", weights.scales), ("smooth", weights.smooth),
                ("lora_down", weights.down), ("lora_up", weights.up), ("bias_\(kind)", weights.bias),
            ]
            for (name, part) in parts where golden.names.contains("logical.\(name)") {
                #expect(part.shape.dimensions == (try golden.shape("logical.\(name)")))
                #expect(part.floats() == (try golden.floats("logical.\(name)")), "\(name)")
            }
            for (key, part) in weights.packed() {
                let stored = try file.tensor(key == "bias" ? "bias_\(kind)" : key)
                #expect(part.shape == stored.shape && part.dtype == stored.dtype, "\(key)")
                #expect(part.copiedBytes == stored.copiedBytes, "\(key)")
            }
        }
    }

    private struct ModulationCase: Decodable {
        let file: String
        let splits: Int
    }

    private static let modulations = Goldens.all("w4a16")

    @Test(.enabled(if: !modulations.isEmpty, "no w4a16 goldens beside the repository"), arguments: modulations)
    func modulationsAreDecoded(_ folder: URL) throws {
        let list = try JSONDecoder().decode(
            [ModulationCase].self, from: Data(contentsOf: folder.appending(path: "cases.json")))
        #expect(!list.isEmpty)
        for one in list {
            let golden = try GoldenTensors(folder.appending(path: one.file))
            let file = try SafetensorsFile(folder.appending(path: one.file).path)
            let weights = try Int4ModulationWeights(splits: one.splits, packed: file.tensor)
            #expect(weights.fault() == nil)
            let parts: [(String, Tensor)] = [
                ("q", weights.codes), ("wscales", weights.scales), ("wzeros", weights.zeros), ("bias", weights.bias),
            ]
            for (name, part) in parts {
                #expect(part.shape.dimensions == (try golden.shape("logical.\(name)")))
                #expect(part.floats() == (try golden.floats("logical.\(name)")), "\(name)")
            }
            for (key, part) in weights.packed() {
                #expect(part.shape == (try file.tensor(key).shape), "\(key)")
                #expect(part.copiedBytes == (try file.tensor(key).copiedBytes), "\(key)")
            }
            Self.compareBias(weights, try golden.floats("logical.bias_orig"))
        }
    }

    /// The 1 was added in bf16: what comes back is within half a unit in the last place of the sum, and exact elsewhere.
    static func compareBias(_ weights: Int4ModulationWeights, _ expected: [Float]) {
        let stored = weights.bias.floats()
        let found = weights.originalBias()
        #expect(found.count == expected.count)
        for index in found.indices {
            let isScale = Int4ModulationWeights.scaleOutputs(weights.outputs, splits: weights.splits).contains {
                $0.contains(index)
            }
            // bf16 has 8 significant bits: half a unit is 2^-8 of the number's power of two.
            let bound = isScale ? stored[index].binade.magnitude * 0x1p-8 : 0
            #expect(abs(found[index] - expected[index]) <= bound, "output \(index)")
        }
    }

    // MARK: - Faults

    private static func weights() -> Int4Weights {
        func ones(_ shape: Shape) -> Tensor {
            Int4LayoutTests.tensor([UInt16](repeating: 0x3f80, count: shape.elementCount), shape, .bfloat16)
        }
        return Int4Weights(
            codes: Int4LayoutTests.matrix(128, 128, .int8) { row, column in row == 5 && column >= 64 ? 0 : Int8(1) },
            scales: ones([128, 2]), smooth: ones([128]), originalSmooth: ones([128]), down: ones([16, 128]),
            up: ones([128, 16]), bias: ones([128]))
    }

    private static func put(_ bits: UInt16, at index: Int, of tensor: Tensor) {
        tensor.mutableAddress.storeBytes(of: bits, toByteOffset: 2 * index, as: UInt16.self)
    }

    @Test func numbersThatCannotBeComputedWith() {
        #expect(Self.weights().fault() == nil)
        let nan: UInt16 = 0x7fc0
        let cases: [(String, KeyPath<Int4Weights, Tensor>, Int, UInt16)] = [
            ("wscales", \.scales, 7, nan), ("wscales", \.scales, 255, 0), ("wscales", \.scales, 0, 0x7f80),
            ("wscales", \.scales, 0, 0x8000), ("smooth", \.smooth, 127, 0), ("smooth", \.smooth, 1, nan),
            ("lora_down", \.down, 2047, nan), ("lora_up", \.up, 3, 0xff80), ("bias", \.bias, 100, nan),
            // Output 5 has no codes in its second group; a scale that is not a number spoils it all the same.
            ("wscales", \.scales, 11, nan),
        ]
        for (key, path, index, bits) in cases {
            let weights = Self.weights()
            Self.put(bits, at: index, of: weights[keyPath: path])
            #expect(weights.fault()?.key == key)
        }
        let unused = Self.weights()
        Self.put(0, at: 11, of: unused.scales)
        #expect(unused.fault() == nil)
    }
}
