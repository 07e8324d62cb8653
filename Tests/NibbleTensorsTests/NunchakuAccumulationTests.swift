import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

/// 4-bit products summed as Nunchaku's kernels sum them, through `Compute`, against torch's emulation of them (golden
/// `w4a4`, `w4a16`: spec §3.3 to §3.5). Layers that are stored in logical form take part.
@Suite struct NunchakuAccumulationTests {
    struct Case: Decodable, Sendable, CustomTestStringConvertible {
        let file: String
        /// nil in `w4a16`, where a file holds its own layer.
        let layer: String?
        let unsigned: Bool?
        let splits: Int?
        var folder: URL?

        private enum CodingKeys: String, CodingKey { case file, layer, unsigned, splits }
        var testDescription: String { file }

        func tensors(_ name: String) throws -> GoldenTensors {
            try GoldenTensors(try #require(folder).appending(path: name))
        }
    }

    static func cases(_ name: String) -> [Case] {
        Goldens.all(name).flatMap { folder in
            let data = (try? Data(contentsOf: folder.appending(path: "cases.json"))) ?? Data()
            return ((try? JSONDecoder().decode([Case].self, from: data)) ?? []).map { one in
                var one = one
                one.folder = folder
                return one
            }
        }
    }
    static let linear = cases("w4a4").filter { one in
        ((try? one.tensors(one.layer ?? ""))?.names.contains("logical.q")) ?? false
    }
    static let rows = cases("w4a16")

    private static func bfloat16(_ tensors: GoldenTensors, _ name: String) throws -> Tensor {
        let floats = try tensors.tensor(name)
        let tensor = Tensor(zeros: floats.shape, .bfloat16)
        Compute(precision: .f32).convert(Tensor(floats.floats(), shape: floats.shape), into: tensor)
        return tensor
    }

    private static func compute(threads: Int) -> Compute {
        Compute(precision: .bf16, accumulation: .nunchaku, pool: ThreadPool(threadCount: threads))
    }

    /// The README: 99.5 % of the values equal (the low-rank sums have another order), the rest one place of bf16 apart.
    @Test(.enabled(if: !linear.isEmpty, "no golden root has w4a4"), arguments: linear, [DType.bfloat16, .float32])
    func linearLayers(_ golden: Case, _ type: DType) throws {
        let tensors = try golden.tensors(golden.file)
        let layer = try golden.tensors(golden.layer ?? "")
        let isUnsigned = golden.unsigned ?? false
        let smooth = try layer.floats("logical.smooth")
        let bias = try layer.floats(isUnsigned ? "logical.bias_u4" : "logical.bias_s4")
        let weights = QuantizedWeights(
            packing: try layer.tensor("logical.q"), scales: try Self.bfloat16(layer, "logical.wscales"),
            smooth: Tensor(smooth, shape: [smooth.count]), down: try Self.bfloat16(layer, "logical.lora_down"),
            up: try Self.bfloat16(layer, "logical.lora_up"), bias: Tensor(bias, shape: [bias.count]),
            inputCodes: isUnsigned ? .shifted : .signed)
        let x = try Self.bfloat16(tensors, "x")
        let found = [1, 2].map { threads in
            let y = Tensor(zeros: [x.rows, bias.count], type)
            Self.compute(threads: threads).quantizedProduct(x, weights, into: y, bits: .int4)
            return y.floats()
        }
        #expect(found[0] == found[1])
        let expected = try tensors.floats("y_w4a4_bf16")
        try #require(found[0].count == expected.count)
        let apart = zip(found[0], expected).map { abs(Self.place($0) - Self.place($1)) }
        #expect((apart.max() ?? 2) <= 1)
        #expect(apart.count { $0 > 0 } * 200 <= apart.count)
        // It is another sum than the exact one, which the golden holds too.
        #expect(found[0] != (try tensors.floats("y_w4a4")))
    }

    /// The golden sums the rounded products exactly and so do we; the README permits one place of bf16.
    @Test(.enabled(if: !rows.isEmpty, "no golden root has w4a16"), arguments: rows)
    func modulations(_ golden: Case) throws {
        let tensors = try golden.tensors(golden.file)
        let codes = try tensors.tensor("logical.q")
        let (output, splits) = (codes.rows, try #require(golden.splits))
        let bytes = Tensor(storage: codes.storage, byteOffset: codes.byteOffset, shape: codes.shape, dtype: .uint8)
        // Outputs are compared in the file's order of rows, where bias is, and codes are not (spec §2.6).
        let stored = (0..<output).map { $0 % splits * (output / splits) + $0 / splits }
        var bias = [Float](repeating: 0, count: output)
        for (place, value) in try tensors.floats("bias").enumerated() { bias[stored[place]] = value }
        let weights = QuantizedRowWeights(
            packing: bytes, scales: try Self.bfloat16(tensors, "logical.wscales"),
            zeros: try Self.bfloat16(tensors, "logical.wzeros"), bias: Tensor(bias, shape: [output]))
        let x = Tensor(try tensors.floats("x"), shape: try tensors.tensor("x").shape)
        let found = [1, 2].map { threads in
            let y = Tensor(zeros: [x.rows, output], .float32)
            Self.compute(threads: threads).quantizedRowProduct(x, weights, into: y)
            return y.floats()
        }
        #expect(found[0] == found[1])
        let expected = try tensors.floats("y_bf16")
        for row in 0..<x.rows {
            for place in 0..<output {
                let (value, other) = (found[0][row * output + stored[place]], expected[row * output + place])
                if abs(Self.place(value) - Self.place(other)) > 1 { Issue.record("\(value), expected \(other)") }
            }
        }
    }

    /// The place of a bf16 number among all of its sign.
    private static func place(_ value: Float) -> Int32 { Int32(bitPattern: value.bitPattern) >> 16 }
}
