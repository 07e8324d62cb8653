import CNibbleKernels
import Foundation
import NibbleTestSupport
import Testing

/// The arithmetic of one 4-bit linear, against torch (golden `w4a4`, `w4a16`).
@Suite struct QuantizedGoldenTests {
    struct Case: Decodable, Sendable, CustomTestStringConvertible {
        let file: String
        let layer: String
        let k, n, rank, rows: Int
        let unsigned: Bool
        var folder: URL?

        private enum CodingKeys: String, CodingKey { case file, layer, k, n, rank, rows, unsigned }
        var testDescription: String { file }
    }

    struct RowCase: Decodable, Sendable, CustomTestStringConvertible {
        let file: String
        let k, n, splits: Int
        var folder: URL?

        private enum CodingKeys: String, CodingKey { case file, k, n, splits }
        var testDescription: String { file }
    }

    static let cases: [Case] = list("w4a4").map { folder, value in
        var value: Case = value
        value.folder = folder
        return value
    }
    static let rowCases: [RowCase] = list("w4a16").map { folder, value in
        var value: RowCase = value
        value.folder = folder
        return value
    }

    private static func list<Value: Decodable>(_ name: String) -> [(URL, Value)] {
        Goldens.all(name).flatMap { folder in
            let data = (try? Data(contentsOf: folder.appending(path: "cases.json"))) ?? Data()
            return ((try? JSONDecoder().decode([Value].self, from: data)) ?? []).map { (folder, $0) }
        }
    }

    /// Codes, scales and integer sums are exact. Products are within 2e-6 of the largest, which is what float32 sums in
    /// any order are off by (the golden data's README measured 2e-7 to 5e-7).
    @Test(.enabled(if: !cases.isEmpty, "no golden root has w4a4"), arguments: cases, [NIBBLE_F32, NIBBLE_BF16])
    func linear(_ golden: Case, type: nibble_float) throws {
        let folder = try #require(golden.folder)
        let stored = try GoldenTensors(folder.appending(path: golden.layer))
        let tensors = try GoldenTensors(folder.appending(path: golden.file))
        let weights = try Self.weights(golden, stored)
        let bare = weights.bareCodes()
        let x = Matrix(try tensors.floats("x"), rows: golden.rows, stride: golden.k + 1, type: type)
        let sums = try tensors.integers("group_sums")
        let sumRows = try tensors.shape("group_sums")[0]
        for set in KernelSet.supported {
            let four = QuantizedInput(set, weights, golden.unsigned ? NIBBLE_CODES_U4 : NIBBLE_CODES_S4, x)
            #expect(four.codes.map(Int.init) == (try tensors.integers("codes")), "\(set.name)")
            #expect(four.scales == (try tensors.floats("ascales")), "\(set.name)")
            let groups = golden.k / 64
            for group in 0..<groups {
                let expected = (0..<sumRows * golden.n).map { Int32(sums[$0 * groups + group]) }
                let found = four.sums(set, bare, group: group).prefix(expected.count)
                #expect(Array(found) == expected, "\(set.name) group \(group)")
            }
            try expectProduct(four.product(set, weights, type: NIBBLE_F32), tensors, "y_w4a4", set)

            let eight = QuantizedInput(set, weights, golden.unsigned ? NIBBLE_CODES_S8_SHIFTED : NIBBLE_CODES_S8, x)
            let codes = try tensors.integers("codes8")
            #expect(eight.codes.prefix(codes.count).map(Int.init) == codes, "\(set.name)")
            #expect(eight.scales == (try tensors.floats("ascales8")), "\(set.name)")
            try expectProduct(eight.product(set, weights, type: NIBBLE_F32), tensors, "y_w4a8", set)
            #expect(weights.isIntact && four.isIntact && eight.isIntact && x.isIntact, "\(set.name)")
        }
    }

    private func expectProduct(_ y: Matrix, _ tensors: GoldenTensors, _ name: String, _ set: KernelSet) throws {
        let expected = try tensors.floats(name)
        let largest = expected.map(abs).max() ?? 0
        #expect(maximumDifference(y.values, expected) <= 2e-6 * largest, "\(set.name) \(name)")
        #expect(y.isIntact, "\(set.name) \(name)")
    }

    /// The README: 99.5 % of the values equal (the low-rank sums have another order), the rest one place apart.
    @Test(.enabled(if: !cases.isEmpty, "no golden root has w4a4"), arguments: cases)
    func productInBF16(_ golden: Case) throws {
        let folder = try #require(golden.folder)
        let weights = try Self.weights(golden, try GoldenTensors(folder.appending(path: golden.layer)))
        let tensors = try GoldenTensors(folder.appending(path: golden.file))
        let x = Matrix(try tensors.floats("x"), rows: golden.rows, type: NIBBLE_BF16)
        let plain = try #require(KernelSet.plain)
        let input = QuantizedInput(plain, weights, golden.unsigned ? NIBBLE_CODES_U4 : NIBBLE_CODES_S4, x)
        let y = Matrix(rows: golden.rows, columns: golden.n, stride: golden.n + 1, type: NIBBLE_BF16)
        var (layer, view) = (weights.layer, input.view)
        // In parts, as threads work it.
        for row in stride(from: 0, to: golden.rows, by: 3) {
            for output in stride(from: 0, to: golden.n, by: 48) {
                var destination = Merge().destination(y, from: output, gelu: false)
                nibble_product_in_bf16(
                    &layer, &view, row, min(3, golden.rows - row), output, min(48, golden.n - output), &destination)
            }
        }
        let different = Self.differences(y.values, try tensors.floats("y_w4a4_bf16"))
        #expect(different * 200 <= y.rows * y.columns, "\(different) differ")
        #expect(y.isIntact)
    }

    /// How many values differ; one that is more than one place of bf16 off is an issue of its own.
    private static func differences(_ found: [Float], _ expected: [Float]) -> Int {
        #expect(found.count == expected.count)
        var count = 0
        for (found, expected) in zip(found, expected) where found != expected {
            count += 1
            let places = Int32(bitPattern: found.bitPattern >> 16) - Int32(bitPattern: expected.bitPattern >> 16)
            if abs(places) > 1 { Issue.record("found \(found), expected \(expected)") }
        }
        return count
    }

    /// A W4A16 layer in the order of the file's rows, packed.
    private struct RowLayer {
        let codes: GuardedMemory
        /// Scales and zeros.
        let pairs: [GuardedMemory]
        let bias: Matrix

        init(_ golden: RowCase, _ tensors: GoldenTensors) throws {
            let (k, n, groups) = (golden.k, golden.n, golden.k / 64)
            // Logical tensors are in the original row order, outputs in the stored one (spec 2.6).
            let order = (0..<n).map { $0 % golden.splits * (n / golden.splits) + $0 / golden.splits }
            func reordered<Value>(_ values: [Value], width: Int) -> [Value] {
                order.flatMap { values[$0 * width..<($0 + 1) * width] }
            }
            codes = GuardedMemory(byteCount: nibble_packed_codes_bytes(k, n), alignment: 64)
            let logical = reordered(try tensors.integers("logical.q").map { Int8($0) }, width: k)
            nibble_pack_codes(logical, 0, k, n, codes.bytes)
            pairs = try ["logical.wscales", "logical.wzeros"].map { (name: String) -> GuardedMemory in
                let memory = GuardedMemory(byteCount: nibble_packed_scales_bytes(k, n), alignment: 64)
                let values = reordered(try tensors.floats(name), width: groups).map(bfloat16)
                nibble_pack_scales(values, k, n, memory.halves)
                return memory
            }
            bias = Matrix(try tensors.floats("bias"), type: NIBBLE_F32)
        }
    }

    /// Sums of float32 against float64, values near 5: the README's 1e-5.
    @Test(.enabled(if: !rowCases.isEmpty, "no golden root has w4a16"), arguments: rowCases)
    func rowProduct(_ golden: RowCase) throws {
        let tensors = try GoldenTensors(try #require(golden.folder).appending(path: golden.file))
        let (k, n) = (golden.k, golden.n)
        let layer = try RowLayer(golden, tensors)
        let x = try tensors.floats("x")
        let expected = try tensors.floats("y_exact")
        for set in KernelSet.supported {
            for row in 0..<x.count / k {
                let input = Matrix(Array(x[row * k..<(row + 1) * k]), type: NIBBLE_F32)
                let y = Matrix(columns: n, type: NIBBLE_F32)
                for first in stride(from: 0, to: n, by: 16) {
                    set.table.quantized_row_product(
                        input.floats, layer.codes.bytes, layer.pairs[0].halves, layer.pairs[1].halves,
                        layer.bias.floats, y.floats, k, first, min(16, n - first))
                }
                #expect(
                    maximumDifference(y.values, Array(expected[row * n..<(row + 1) * n])) <= 1e-5,
                    "\(set.name) row \(row)")
                #expect(y.isIntact && layer.bias.isIntact && input.isIntact, "\(set.name)")
            }
        }
    }

    /// The golden sums the rounded products exactly, and so do we: all values are equal. The README would permit one place.
    @Test(.enabled(if: !rowCases.isEmpty, "no golden root has w4a16"), arguments: rowCases)
    func rowProductInBF16(_ golden: RowCase) throws {
        let tensors = try GoldenTensors(try #require(golden.folder).appending(path: golden.file))
        let (k, n) = (golden.k, golden.n)
        let layer = try RowLayer(golden, tensors)
        let x = try tensors.floats("x")
        let expected = try tensors.floats("y_bf16")
        for row in 0..<x.count / k {
            let input = Matrix(Array(x[row * k..<(row + 1) * k]), type: NIBBLE_F32)
            let y = Matrix(columns: n, type: NIBBLE_F32)
            for first in stride(from: 0, to: n, by: 16) {
                nibble_row_product_in_bf16(
                    input.floats, layer.codes.bytes, layer.pairs[0].halves, layer.pairs[1].halves, layer.bias.floats,
                    y.floats, k, first, min(16, n - first))
            }
            #expect(Self.differences(y.values, Array(expected[row * n..<(row + 1) * n])) == 0)
            #expect(y.isIntact && layer.bias.isIntact && input.isIntact)
        }
    }

    /// The layer as the checkpoint holds it, decoded by the formulas of the format (Nunchaku's `qweight` and low-rank
    /// layouts); scales, smoothing and bias are stored in logical form beside it.
    private static func weights(_ golden: Case, _ stored: GoldenTensors) throws -> QuantizedCase {
        let (k, n, rank) = (golden.k, golden.n, golden.rank)
        let bytes = try stored.integers("qweight").map { UInt8(truncatingIfNeeded: $0) }
        var codes: [Int8] = []
        for row in 0..<n {
            for column in 0..<k {
                let tile = row / 128 * (k / 64) + column / 64
                let place = ((tile * 8 + row / 16 % 8) * 8 + row % 8) * 4 + column / 8 % 4
                let word = place * 4 + 2 * (row / 8 % 2) + column / 32 % 2
                let nibble = bytes[4 * word + column % 8 / 2] >> (column % 2 * 4) & 15
                codes.append(Int8(bitPattern: (nibble ^ 8) &- 8))
            }
        }
        if stored.names.contains("logical.q") {
            #expect(codes.map(Int.init) == (try stored.integers("logical.q")))
        }
        func factor(_ name: String, _ channel: (Int) -> Int, _ column: (Int) -> Int, count: Int) throws -> [Float] {
            let values = try stored.floats(name)
            return (0..<count).map { index in
                let (c, r) = (channel(index), column(index))
                let (row, col) = name == "lora_down" ? (r % 16, c % 16) : (c % 16, r % 16)
                let tile = c / 16 * (rank / 16) + r / 16
                return values[
                    tile * 256 + 32 * (row % 8) + 8 * (col / 2 % 4) + 4 * (row / 8) + 2 * (col / 8) + col % 2]
            }
        }
        return QuantizedCase(
            input: k, output: n, rank: rank, codes: codes, scales: try stored.floats("logical.wscales"),
            smooth: try stored.floats("logical.smooth"),
            down: try factor("lora_down", { $0 % k }, { $0 / k }, count: rank * k),
            up: try factor("lora_up", { $0 / rank }, { $0 % rank }, count: n * rank),
            bias: try stored.floats(golden.unsigned ? "logical.bias_u4" : "logical.bias_s4"))
    }
}
