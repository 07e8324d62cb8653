import CNibbleKernels
import Foundation
import Testing

/// 4-bit layers: every instruction set against plain C and float64, on odd shapes and extreme codes.
@Suite struct QuantizedTests {
    private static let kinds = [
        NIBBLE_CODES_S4, NIBBLE_CODES_U4, NIBBLE_CODES_S8, NIBBLE_CODES_S8_SHIFTED, NIBBLE_CODES_S8_PAIRED,
    ]

    /// Inputs around a group and around the 16 groups that a kernel works at once; outputs around tiles of 16 and 32;
    /// rows around tiles of 12, 6 and 4.
    private static let shapes: [(rows: Int, input: Int, output: Int, rank: Int)] = [
        (1, 64, 1, 0), (1, 128, 32, 16), (2, 64, 15, 32), (3, 192, 16, 48), (4, 64, 17, 16), (5, 128, 31, 80),
        (6, 1024, 33, 32), (7, 1088, 48, 16), (13, 2112, 65, 32), (19, 64, 100, 16), (29, 1152, 47, 32),
    ]

    @Test(arguments: kinds, [NIBBLE_F32, NIBBLE_BF16])
    func quantization(kind: nibble_activation_codes, type: nibble_float) throws {
        let plain = try #require(KernelSet.plain)
        for shape in Self.shapes {
            var random = Random(shape.input + shape.rows)
            let weights = QuantizedCase(input: shape.input, output: shape.output, rank: shape.rank, &random)
            let x = Self.extremeInput(rows: shape.rows, columns: shape.input, type: type, &random)
            let expected = QuantizedInput(plain, weights, kind, x)
            for set in KernelSet.supported {
                let found = QuantizedInput(set, weights, kind, x)
                let label = "\(set.name) \(shape)"
                #expect(found.codes == expected.codes && found.starts == expected.starts, "\(label)")
                #expect(found.scales.map(\.bitPattern) == expected.scales.map(\.bitPattern), "\(label)")
                #expect(found.isIntact && weights.isIntact && x.isIntact, "\(label)")
                expectBranch(found, weights, x, label)
            }
        }
    }

    /// The worked example of the format's description (spec §3.2): the stored scale is that of bf16, the codes are made
    /// with the one before it was rounded.
    @Test func exampleOfTheFormat() {
        let weights = QuantizedCase(
            input: 64, output: 1, rank: 0, codes: [Int8](repeating: 1, count: 64), scales: [1],
            smooth: [Float](repeating: 1, count: 64), down: [], up: [], bias: [0])
        let x = Matrix((0..<64).map { (Float($0) - 31) / 16 }, type: NIBBLE_BF16)
        for set in KernelSet.supported {
            let found = QuantizedInput(set, weights, NIBBLE_CODES_S4, x)
            #expect(found.codes.prefix(7) == [-7, -7, -6, -6, -6, -6, -5], "\(set.name)")
            #expect(found.codes.suffix(7) == [6, 6, 6, 6, 7, 7, 7], "\(set.name)")
            #expect(found.scales.map(\.bitPattern) == [0x3e92_0000], "\(set.name)")
        }
    }

    /// Sums of 64 products in one accumulator (two roundings each without fused multiply-add), then one for each group.
    private func expectBranch(_ found: QuantizedInput, _ weights: QuantizedCase, _ x: Matrix, _ label: String) {
        for row in 0..<x.rows {
            for r in 0..<weights.rank {
                let products = (0..<weights.input).map {
                    Double(x[row, $0]) * Double(weights.down[r * weights.input + $0])
                }
                let magnitude = products.reduce(0) { $0 + abs($1) }
                let bound = Double(130 + weights.input / 64) * 0x1p-24 * magnitude + smallestNormal
                let error = abs(Double(found.branch(row, r)) - products.reduce(0, +))
                #expect(error <= bound, "\(label) row \(row) rank \(r)")
            }
        }
    }

    @Test(arguments: kinds)
    func sumsAreExact(kind: nibble_activation_codes) throws {
        let plain = try #require(KernelSet.plain)
        for shape in Self.shapes {
            var random = Random(shape.input * 3 + shape.rows)
            let weights = QuantizedCase(input: shape.input, output: shape.output, rank: 0, &random)
            let bare = weights.bareCodes()
            let x = Self.extremeInput(rows: shape.rows, columns: shape.input, type: NIBBLE_F32, &random)
            let quantized = QuantizedInput(plain, weights, kind, x)
            for group in Set([0, shape.input / 128, shape.input / 64 - 1]) {
                var expected: [Int32] = []
                for row in 0..<shape.rows {
                    for output in 0..<shape.output {
                        expected.append(
                            (group * 64..<group * 64 + 64).reduce(Int32(0)) {
                                $0 + Int32(quantized.code(row, $1))
                                    * Int32(weights.codes[output * shape.input + $1])
                            })
                    }
                }
                for set in KernelSet.supported {
                    #expect(quantized.sums(set, bare, group: group) == expected, "\(set.name) \(shape) \(group)")
                }
            }
        }
    }

    /// The greatest sums that there are: every code at an end of its range.
    @Test(arguments: [(Int8(-8), Float(1)), (-8, -1), (7, 1), (7, -1)])
    func extremeCodes(weight: Int8, sign: Float) throws {
        let weights = QuantizedCase(
            input: 128, output: 33, rank: 0, codes: [Int8](repeating: weight, count: 128 * 33),
            scales: [Float](repeating: 1, count: 66), smooth: [Float](repeating: 1, count: 128), down: [], up: [],
            bias: [Float](repeating: 0, count: 33))
        let x = Matrix([Float](repeating: sign, count: 7 * 128), rows: 7, type: NIBBLE_F32)
        for set in KernelSet.supported {
            for (kind, code) in [
                (NIBBLE_CODES_S4, 7), (NIBBLE_CODES_S8, 127), (NIBBLE_CODES_U4, 15), (NIBBLE_CODES_S8_PAIRED, 112),
            ] {
                let expected = kind == NIBBLE_CODES_U4 && sign < 0 ? 0 : Int32(sign) * Int32(weight) * 64 * Int32(code)
                let input = QuantizedInput(set, weights, kind, x)
                let sums = input.sums(set, weights, group: 1)
                #expect(sums.allSatisfy { $0 == expected }, "\(set.name) \(code)")
            }
        }
    }

    /// Every term is off by at most 2 u (its scale and the product), a branch's by u; the sum adds one u for each term.
    /// GELU's slope is below 1.2, and it loses at most 32 u of its argument. Where y is bf16, AVX-512 BF16 rounds the
    /// branch to bf16 first: half a unit in its last place, 2^-9, and takes subnormal numbers for zero.
    @Test(arguments: [false, true], [NIBBLE_F32, NIBBLE_BF16])
    func product(gelu: Bool, type: nibble_float) throws {
        let plain = try #require(KernelSet.plain)
        for shape in Self.shapes {
            var random = Random(shape.input * 7 + shape.rows)
            let weights = QuantizedCase(input: shape.input, output: shape.output, rank: shape.rank, &random)
            let x = Matrix(
                random.normal(shape.rows * shape.input, scale: 0.3), rows: shape.rows, type: NIBBLE_F32)
            let input = QuantizedInput(plain, weights, NIBBLE_CODES_S4, x)
            var expected: [Double] = []
            var bound: [Double] = []
            var boundOfRoundedBranch: [Double] = []
            for row in 0..<shape.rows {
                for output in 0..<shape.output {
                    let terms = Self.terms(input, weights, row, output)
                    let sum = terms.reduce(0, +)
                    let lost = Double(terms.count + 3) * 0x1p-24 * terms.reduce(0) { $0 + abs($1) }
                    let branch = terms.dropFirst(shape.input / 64).dropLast().reduce(0) { $0 + abs($1) }
                    let value = gelu ? Self.gelu(sum) : sum
                    expected.append(value)
                    for (extra, isRounded) in [(0, false), (0x1p-9 * branch, true)] {
                        let lost = lost + extra
                        let allowed = storedBound(gelu ? 1.2 * lost + 32 * 0x1p-24 * abs(sum) : lost, value, type)
                        if isRounded { boundOfRoundedBranch.append(allowed) } else { bound.append(allowed) }
                    }
                }
            }
            var checker = RowChecker()
            for set in KernelSet.supported {
                let y = input.product(set, weights, gelu: gelu, type: type)
                let roundsBranch = set.table.isa == NIBBLE_ISA_AVX512BF16 && type == NIBBLE_BF16
                checker.check(set, y.values, expected, roundsBranch ? boundOfRoundedBranch : bound, "\(shape)")
                #expect(y.isIntact && input.isIntact && weights.isIntact, "\(set.name) \(shape)")
            }
        }
    }

    /// Added with a gate or multiplied, in one place or between others: what the outputs themselves make of it, one
    /// multiply-add and a rounding to y's type later.
    @Test(arguments: [NIBBLE_REPLACE, NIBBLE_ADD, NIBBLE_MULTIPLY], [NIBBLE_F32, NIBBLE_BF16])
    func mergesWithWhatIsThere(kind: nibble_merge, type: nibble_float) {
        for shape in Self.shapes {
            var random = Random(shape.input * 11 + shape.rows)
            let weights = QuantizedCase(input: shape.input, output: shape.output, rank: shape.rank, &random)
            let x = Matrix(random.normal(shape.rows * shape.input), rows: shape.rows, type: NIBBLE_F32)
            let before = Matrix(random.normal(shape.rows * shape.output), rows: shape.rows, type: type)
            let gate = Matrix(random.normal(shape.output), type: NIBBLE_F32)
            for set in KernelSet.supported {
                let input = QuantizedInput(set, weights, NIBBLE_CODES_S4, x)
                for (gelu, gate) in [(false, gate), (true, nil)] {
                    let outputs = input.product(set, weights, gelu: gelu, type: NIBBLE_F32)
                    let y = Matrix(before.values, rows: shape.rows, stride: shape.output + 3, type: type)
                    input.product(
                        set, weights, gelu: gelu, type: type,
                        merge: Merge(kind: kind, gate: gate, branchInF32: true), into: y)
                    let isRight = (0..<shape.rows * shape.output).allSatisfy { place in
                        let (row, output) = (place / shape.output, place % shape.output)
                        let (value, old) = (Double(outputs[row, output]), Double(before[row, output]))
                        let added = Double(gate?[0, output] ?? 1) * value
                        let expected =
                            kind == NIBBLE_ADD ? old + added : kind == NIBBLE_MULTIPLY ? old * value : value
                        // Without fused multiply-add the product is rounded before the sum.
                        let lost = 0x1p-24 * (abs(expected) + (kind == NIBBLE_ADD ? abs(added) : 0))
                        return abs(Double(y[row, output]) - expected) <= storedBound(lost, expected, type)
                    }
                    #expect(isRight && y.isIntact && input.isIntact, "\(set.name) \(shape) gelu \(gelu)")
                }
            }
        }
    }

    /// A row's result depends on no other row.
    @Test func rowsAreIndependent() throws {
        var random = Random(5)
        let weights = QuantizedCase(input: 192, output: 48, rank: 16, &random)
        let x = Matrix(random.normal(11 * 192), rows: 11, type: NIBBLE_F32)
        for set in KernelSet.supported {
            let all = QuantizedInput(set, weights, NIBBLE_CODES_S8, x).product(set, weights, type: NIBBLE_F32)
            for row in 0..<11 {
                let one = Matrix((0..<192).map { x[row, $0] }, rows: 1, type: NIBBLE_F32)
                let y = QuantizedInput(set, weights, NIBBLE_CODES_S8, one).product(set, weights, type: NIBBLE_F32)
                #expect((0..<48).allSatisfy { y[0, $0].bitPattern == all[row, $0].bitPattern }, "\(set.name) \(row)")
            }
        }
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity], kinds)
    func notFinite(value: Float, kind: nibble_activation_codes) throws {
        var random = Random(9)
        let weights = QuantizedCase(input: 128, output: 16, rank: 0, &random)
        let x = Matrix(random.normal(2 * 128), rows: 2, type: NIBBLE_F32)
        x[1, 70] = value
        for set in KernelSet.supported {
            let y = QuantizedInput(set, weights, kind, x).product(set, weights, type: NIBBLE_F32)
            #expect((0..<16).allSatisfy { y[0, $0].isFinite && !y[1, $0].isFinite }, "\(set.name)")
        }
    }

    @Test(arguments: [0, 8])
    func packing(offset: Int32) throws {
        var random = Random(3)
        for (input, output) in [(64, 1), (128, 16), (192, 33), (256, 100)] {
            let codes = (0..<input * output).map { _ in Int8(random.bits() % 16) - Int8(offset) }
            let packed = GuardedMemory(byteCount: nibble_packed_codes_bytes(input, output), alignment: 64)
            nibble_pack_codes(codes, offset, input, output, packed.bytes)
            var unpacked = [Int8](repeating: 99, count: codes.count)
            nibble_unpack_codes(packed.bytes, offset, input, output, &unpacked)
            #expect(unpacked == codes && packed.isIntact)
            // The formula of the header, for every code.
            let bytes = packed.bytes
            for n in 0..<output {
                for k in 0..<input {
                    let byte = bytes[(n / 16 * (input / 8) + k / 8) * 64 + 4 * (n % 16) + k % 4]
                    let code = Int(k % 8 < 4 ? byte & 15 : byte >> 4) - Int(offset)
                    if code != Int(codes[n * input + k]) { Issue.record("output \(n) input \(k)") }
                }
            }
            let scales = (0..<output * input / 64).map { UInt16(truncatingIfNeeded: $0) }
            let packedScales = GuardedMemory(byteCount: nibble_packed_scales_bytes(input, output), alignment: 64)
            nibble_pack_scales(scales, input, output, packedScales.halves)
            var unpackedScales = [UInt16](repeating: 0, count: scales.count)
            nibble_unpack_scales(packedScales.halves, input, output, &unpackedScales)
            #expect(unpackedScales == scales && packedScales.isIntact)
            try lowRankPacking(input: input, output: output, rank: 24)
        }
    }

    /// The formulas of the header for the low-rank pair, and their inverse; the rank is padded with zeros.
    private func lowRankPacking(input: Int, output: Int, rank: Int) throws {
        let padded = 32
        let up = (0..<output * rank).map { UInt16(truncatingIfNeeded: 3 * $0 + 1) }
        let packedUp = GuardedMemory(byteCount: nibble_packed_up_bytes(output, rank), alignment: 64)
        nibble_pack_up(up, output, rank, packedUp.halves)
        #expect(
            (0..<output * padded).allSatisfy { index in
                let (n, r) = (index / padded, index % padded)
                return packedUp.halves[(n / 16 * padded + r) * 16 + n % 16] == (r < rank ? up[n * rank + r] : 0)
            })
        var unpacked = [UInt16](repeating: 0, count: up.count)
        nibble_unpack_up(packedUp.halves, output, rank, &unpacked)
        #expect(unpacked == up && packedUp.isIntact)
        let down = (0..<rank * input).map { UInt16(truncatingIfNeeded: 5 * $0 + 1) }
        let packedDown = GuardedMemory(byteCount: nibble_packed_down_bytes(input, rank), alignment: 64)
        nibble_pack_down(down, input, rank, packedDown.halves)
        #expect(
            (0..<padded * input).allSatisfy { index in
                let (r, k) = (index / input, index % input)
                return packedDown.halves[(k / 2 * padded + r) * 2 + k % 2] == (r < rank ? down[r * input + k] : 0)
            })
        unpacked = [UInt16](repeating: 0, count: down.count)
        nibble_unpack_down(packedDown.halves, input, rank, &unpacked)
        #expect(unpacked == down && packedDown.isIntact)
    }

    /// Rows of ordinary numbers but for a zero group, one outlier, all equal, subnormal and tiny numbers.
    private static func extremeInput(
        rows: Int, columns: Int, type: nibble_float, _ random: inout Random
    ) -> Matrix {
        var values = random.normal(rows * columns, scale: 0.5)
        for row in 0..<rows {
            for column in 0..<columns where column / 64 == row % (columns / 64) {
                switch row % 6 {
                case 1: values[row * columns + column] = 0
                case 2: values[row * columns + column] = column % 64 == 63 ? -3e4 : 1e-3
                case 3: values[row * columns + column] = column % 2 == 0 ? 1 : -1
                case 4: values[row * columns + column] *= 0x1p-133
                case 5: values[row * columns + column] *= 1e-30
                default: break
                }
            }
        }
        return Matrix(values, rows: rows, stride: columns + 5, type: type)
    }

    private static func terms(_ x: QuantizedInput, _ weights: QuantizedCase, _ row: Int, _ output: Int) -> [Double] {
        let groups = weights.input / 64
        var terms = (0..<groups).map { group in
            let sum = (group * 64..<group * 64 + 64).reduce(0) {
                $0 + Int(x.code(row, $1)) * Int(weights.codes[output * weights.input + $1])
            }
            return Double(sum) * Double(x.scale(row, group)) * Double(weights.scales[output * groups + group])
        }
        terms += (0..<weights.rank).map {
            Double(x.branch(row, $0)) * Double(weights.up[output * weights.rank + $0])
        }
        return terms + [Double(weights.bias[output])]
    }

    private static func gelu(_ x: Double) -> Double {
        0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    }
}
