import CNibbleKernels
import Foundation
import Testing

/// Element by element operations and column sums against float64.
@Suite struct RowTests {
    private static let u = 0x1p-24

    @Test(arguments: RowCases.types, [false, true]) func gatedAdd(type: nibble_float, withGate: Bool) {
        for n in RowCases.widths {
            for rows in RowCases.rows {
                var random = Random(n * 41 + rows)
                let stream = random.normal(rows * n)
                let branch = Matrix(random.normal(rows * n), rows: rows, stride: n + 2, type: type)
                let gate = withGate ? random.normal(n) : nil
                let added = branch.values.enumerated().map { Double(gate?[$0 % n] ?? 1) * Double($1) }
                let expected = zip(stream, added).map { Double($0) + $1 }
                let bound = zip(expected, added).map { Self.u * (abs($0) + 2 * abs($1)) }
                var checker = RowChecker()
                for set in KernelSet.supported {
                    let x = Matrix(stream, rows: rows, stride: n + 1, type: NIBBLE_F32)
                    let gate = gate.map { Matrix($0, type: NIBBLE_F32) }
                    set.table.gated_add(
                        x.floats, x.stride, branch.pointer, type, branch.stride, rows, n, gate?.floats)
                    checker.check(set, x.values, expected, bound, "\(type.label) rows \(rows) n \(n)")
                    #expect(x.isIntact && branch.isIntact, "\(set.name) n \(n)")
                }
            }
        }
    }

    @Test(arguments: RowCases.types) func multiply(type: nibble_float) {
        for n in RowCases.widths {
            for rows in RowCases.rows {
                var random = Random(n * 43 + rows)
                let left = Matrix(random.normal(rows * n), rows: rows, type: type).values
                let y = Matrix(random.normal(rows * n), rows: rows, stride: n + 2, type: type)
                let expected = zip(left, y.values).map { Double($0) * Double($1) }
                let bound = expected.map { storedBound(Self.u * abs($0), $0, type) }
                var checker = RowChecker()
                for set in KernelSet.supported {
                    let x = Matrix(left, rows: rows, stride: n + 1, type: type)
                    set.table.multiply(x.pointer, x.stride, y.pointer, y.stride, type, rows, n)
                    checker.check(set, x.values, expected, bound, "\(type.label) rows \(rows) n \(n)")
                    #expect(x.isIntact && y.isIntact, "\(set.name) n \(n)")
                }
            }
        }
    }

    /// SiLU in float64, and what it may be off by: 2 ulp of the exponential (one u from its argument's fraction, one from
    /// the polynomial, two from scaling and rounding), and the roundings of the sum and the quotient.
    ///
    /// Where the exponential overflows f32, beyond x = -88, the result is zero instead of a number below 88 e^-88 = 5.4e-37.
    private func silu(_ x: Double) -> (value: Double, bound: Double) {
        let value = x / (1 + exp(-x))
        return (value, 6 * Self.u * abs(value) + (x < -87 ? 6e-37 : 0))
    }

    @Test(arguments: RowCases.types) func silu(type: nibble_float) {
        var random = Random(47)
        var inputs: [Float] = [
            0, -0.0, 0x1p-140, -0x1p-140, 88, 89, -86, -87, -88, -88.5, -90, -104, -1000, 1e30, -1e30, 3e38,
        ]
        inputs += (0..<4001).map { Float($0 - 2000) / 20 }
        inputs += random.normal(1021, scale: 10)
        let expected = inputs.map { silu(Double($0)) }
        let bound = expected.map { storedBound($0.bound, $0.value, type) }
        var checker = RowChecker()
        for set in KernelSet.supported {
            let x = Matrix(inputs, type: NIBBLE_F32)
            let y = Matrix(columns: inputs.count, type: type)
            set.table.silu(x.floats, y.pointer, type, inputs.count)
            checker.check(set, y.values, expected.map(\.value), bound, "\(type.label)")
            #expect(x.isIntact && y.isIntact, "\(set.name)")
            let special = Matrix([.infinity, .nan], type: NIBBLE_F32)
            set.table.silu(special.floats, y.pointer, type, 2)
            #expect(y[0, 0] == .infinity && y[0, 1].isNaN, "\(set.name)")
        }
    }

    @Test(arguments: RowCases.types, RowCases.types) func scaleOffset(type: nibble_float, target: nibble_float) {
        for (n, withSiLU) in RowCases.widths.flatMap({ [($0, false), ($0, true)] }) {
            for rows in RowCases.rows {
                var random = Random(n * 53 + rows)
                let x = Matrix(random.normal(rows * n), rows: rows, stride: n + 3, type: type)
                let gain = Matrix(random.normal(n), type: NIBBLE_F32)
                let offset = Matrix(random.normal(n), type: NIBBLE_F32)
                var expected: [Double] = []
                var bound: [Double] = []
                for (index, value) in x.values.enumerated() {
                    let product = Double(value) * Double(gain[0, index % n])
                    let linear = product + Double(offset[0, index % n])
                    let linearBound = Self.u * (abs(linear) + 2 * abs(product))
                    // SiLU's slope is at most 1.1.
                    let result = withSiLU ? silu(linear) : (value: linear, bound: 0)
                    expected.append(result.value)
                    bound.append(storedBound(1.1 * linearBound + result.bound, result.value, target))
                }
                var checker = RowChecker()
                for set in KernelSet.supported {
                    let y = Matrix(rows: rows, columns: n, stride: n + 1, type: target)
                    set.table.scale_offset(
                        x.pointer, type, x.stride, y.pointer, target, y.stride, rows, n, gain.floats, offset.floats,
                        withSiLU)
                    let label = "\(type.label) \(target.label) rows \(rows) n \(n) silu \(withSiLU)"
                    checker.check(set, y.values, expected, bound, label)
                    #expect(x.isIntact && y.isIntact, "\(set.name) n \(n)")
                }
            }
        }
    }

    /// Sums are in float64 and in the order of the rows: equal to the same loop here, and however the rows are split.
    @Test(arguments: RowCases.types) func columnMoments(type: nibble_float) {
        for n in RowCases.widths {
            for rows in [1, 2, 3, 4, 5, 7, 8, 9, 37] {
                var random = Random(n * 59 + rows)
                let x = Matrix(random.normal(rows * n, mean: 2), rows: rows, stride: n + 3, type: type)
                var sums = [Double](repeating: 1, count: n)
                var squares = [Double](repeating: 2, count: n)
                for row in 0..<rows {
                    for column in 0..<n {
                        let value = Double(x[row, column])
                        sums[column] += value
                        squares[column] += value * value
                    }
                }
                for (set, split) in KernelSet.supported.flatMap({ [($0, 0), ($0, rows / 2)] }) {
                    let memory = GuardedMemory(byteCount: 16 * n)
                    let results = memory.start.assumingMemoryBound(to: Double.self)
                    for column in 0..<n { (results[column], results[n + column]) = (1, 2) }
                    let elementBytes = type == NIBBLE_F32 ? 4 : 2
                    let second = x.pointer + split * x.stride * elementBytes
                    set.table.column_moments(x.pointer, type, x.stride, split, n, results, results + n)
                    set.table.column_moments(second, type, x.stride, rows - split, n, results, results + n)
                    #expect((0..<n).allSatisfy { results[$0] == sums[$0] }, "\(set.name) n \(n) rows \(rows)")
                    #expect((0..<n).allSatisfy { results[n + $0] == squares[$0] }, "\(set.name) n \(n) rows \(rows)")
                    #expect(x.isIntact && memory.isIntact, "\(set.name) n \(n)")
                }
            }
        }
    }
}
