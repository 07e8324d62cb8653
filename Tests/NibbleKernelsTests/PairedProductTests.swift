import CNibbleKernels
import Testing

/// The sets that multiply in pairs.
private let pairedSets = KernelSet.supported.compactMap { set in
    set.table.paired_product.map { (set: set, paired: $0.pointee) }
}

/// Products in pairs. Their oracle is the product that multiplies code by code, which QuantizedTests hold
/// against float64: sums of a group are exact in both, and all else follows in the same order, so no bit may differ.
@Suite(.enabled(if: !pairedSets.isEmpty, "no instruction set of this processor multiplies in pairs"))
struct PairedProductTests {
    /// Inputs around a group and around the 48 groups that are worked at once; outputs around tiles of 16 and 32; rows
    /// around tiles of 12 and 6.
    private static let shapes: [(rows: Int, input: Int, output: Int, rank: Int)] = [
        (1, 64, 1, 0), (2, 128, 32, 16), (5, 64, 15, 32), (6, 192, 16, 48), (7, 64, 17, 16), (12, 128, 31, 80),
        (13, 3072, 33, 32), (29, 3136, 65, 16), (19, 6208, 47, 0), (30, 1152, 100, 32),
    ]

    @Test(arguments: [NIBBLE_CODES_S4, NIBBLE_CODES_U4, NIBBLE_CODES_S8_PAIRED], [NIBBLE_F32, NIBBLE_BF16])
    func bitsAreThoseOfTheProduct(kind: nibble_activation_codes, type: nibble_float) {
        for shape in Self.shapes {
            var random = Random(shape.input * 5 + shape.rows)
            let weights = QuantizedCase(input: shape.input, output: shape.output, rank: shape.rank, &random)
            let x = Matrix(random.normal(shape.rows * shape.input), rows: shape.rows, type: type)
            let before = random.normal(shape.rows * shape.output)
            for (set, paired) in pairedSets {
                let input = QuantizedInput(set, weights, kind, x)
                for (gelu, merge) in [(false, NIBBLE_REPLACE), (true, NIBBLE_ADD), (true, NIBBLE_MULTIPLY)] {
                    let found = Matrix(before, rows: shape.rows, stride: shape.output + 3, type: type)
                    let expected = Matrix(before, rows: shape.rows, stride: shape.output + 3, type: type)
                    input.pairedProduct(
                        paired, weights, gelu: gelu, type: type, merge: Merge(kind: merge), into: found)
                    input.product(set, weights, gelu: gelu, type: type, merge: Merge(kind: merge), into: expected)
                    let label = "\(set.name) \(shape) gelu \(gelu) merge \(merge.rawValue)"
                    #expect(found.values.map(\.bitPattern) == expected.values.map(\.bitPattern), "\(label)")
                    #expect(found.isIntact && input.isIntact && weights.isIntact, "\(label)")
                }
            }
        }
    }

    /// The greatest sums that there are: every code at an end of its range.
    @Test(arguments: [(Int8(-8), Float(1)), (-8, -1), (7, 1), (7, -1)])
    func extremeCodes(weight: Int8, sign: Float) {
        let weights = QuantizedCase(
            input: 64, output: 33, rank: 0, codes: [Int8](repeating: weight, count: 64 * 33),
            scales: [Float](repeating: 1, count: 33), smooth: [Float](repeating: 1, count: 64), down: [], up: [],
            bias: [Float](repeating: 0, count: 33))
        for (kind, code) in [(NIBBLE_CODES_S4, Float(7)), (NIBBLE_CODES_U4, 15), (NIBBLE_CODES_S8_PAIRED, 112)] {
            // Scales of 1.
            let value = sign * code - (kind == NIBBLE_CODES_U4 ? nibbleGELUShift : 0)
            let x = Matrix([Float](repeating: value, count: 7 * 64), rows: 7, type: NIBBLE_F32)
            let product = kind == NIBBLE_CODES_U4 && sign < 0 ? 0 : sign * code * Float(weight)
            for (set, paired) in pairedSets {
                let y = QuantizedInput(set, weights, kind, x).pairedProduct(paired, weights, type: NIBBLE_F32)
                #expect(y.values.allSatisfy { $0 == 64 * product }, "\(set.name) \(code)")
            }
        }
    }

    /// A row of NaN spoils its own outputs alone.
    @Test func notFinite() {
        var random = Random(11)
        let weights = QuantizedCase(input: 128, output: 48, rank: 16, &random)
        let x = Matrix(random.normal(8 * 128), rows: 8, type: NIBBLE_F32)
        x[3, 70] = .nan
        for (set, paired) in pairedSets {
            let y = QuantizedInput(set, weights, NIBBLE_CODES_S4, x).pairedProduct(paired, weights, type: NIBBLE_F32)
            for row in 0..<8 {
                #expect((0..<48).allSatisfy { y[row, $0].isFinite == (row != 3) }, "\(set.name) \(row)")
            }
        }
    }

    /// What U4 codes are shifted by.
    private let nibbleGELUShift: Float = 0.171875
}
