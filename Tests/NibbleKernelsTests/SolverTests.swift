import CNibbleKernels
import Testing

/// The quantizer's kernels against float64, and all instruction sets against plain C.
@Suite struct SolverTests {
    private static let u = 0x1p-24
    private static let group = Int(NIBBLE_GROUP)

    @Test(arguments: RowCases.types) func columnMaxima(type: nibble_float) {
        for n in RowCases.widths {
            for rows in RowCases.rows {
                var random = Random(n * 47 + rows)
                let values = Matrix(random.normal(rows * n), rows: rows, stride: n + 3, type: type).values
                let before = random.normal(n).map(abs)
                let expected = (0..<n).map { column in
                    (0..<rows).reduce(before[column]) { max($0, abs(values[$1 * n + column])) }
                }
                for set in KernelSet.supported {
                    let x = Matrix(values, rows: rows, stride: n + 3, type: type)
                    let maxima = Matrix(before, type: NIBBLE_F32)
                    set.table.column_maxima(x.pointer, type, x.stride, rows, n, maxima.floats)
                    #expect(maxima.values == expected && maxima.isIntact, "\(set.name) n \(n) rows \(rows)")
                    x[rows - 1, n / 2] = .nan
                    set.table.column_maxima(x.pointer, type, x.stride, rows, n, maxima.floats)
                    #expect(maxima[0, n / 2].isNaN, "\(set.name): NaN is above all")
                    x[rows - 1, n / 2] = 0
                    set.table.column_maxima(x.pointer, type, x.stride, rows, n, maxima.floats)
                    #expect(maxima[0, n / 2].isNaN, "\(set.name): NaN stays")
                }
            }
        }
    }

    @Test(arguments: [0, 1, 16, 37]) func subtractProduct(rank: Int) {
        for (rows, n) in [(1, 64), (3, 128), (4, 192), (9, 64)] {
            var random = Random(rank * 100 + rows)
            let before = random.normal(rows * n)
            let up = Matrix(random.normal(max(rows * rank, 1)), type: NIBBLE_F32)
            let down = Matrix(random.normal(max(rank * n, 1)), type: NIBBLE_F32)
            var (expected, bound) = (before.map(Double.init), before.map { abs(Double($0)) })
            for index in before.indices {
                for r in 0..<rank {
                    let term = Double(up[0, index / n * rank + r]) * Double(down[0, r * n + index % n])
                    expected[index] -= term
                    bound[index] += abs(term)
                }
            }
            // One rounding for each term and its sum, relative to the magnitudes so far.
            bound = bound.map { Double(2 * rank + 1) * Self.u * $0 }
            var checker = RowChecker()
            for set in KernelSet.supported {
                let w = Matrix(before, rows: rows, stride: n + 5, type: NIBBLE_F32)
                set.table.solver.subtract_product(w.floats, w.stride, up.floats, down.floats, rank, rows, n)
                checker.check(set, w.values, expected, bound, "rank \(rank) rows \(rows) n \(n)")
                #expect(w.isIntact && up.isIntact && down.isIntact)
            }
        }
    }

    /// Weights with a zero group, an outlier, ties between two codes, and numbers of every size.
    private static func weights(_ rows: Int, _ n: Int) -> [Float] {
        var random = Random(rows * 31 + n)
        var values = random.normal(rows * n, scale: 0.02)
        for index in 0..<group { values[index] = 0 }
        values[n - 1] = 3
        for index in stride(from: n - group, to: n - 1, by: 2) { values[index] = Float(index % 7) * 3 / 14 }
        if rows > 1 { for index in n..<n + group { values[index] *= 0x1p-100 } }
        if rows > 2 { for index in 2 * n..<2 * n + group { values[index] *= 0x1p100 } }
        return values
    }

    @Test func roundWeights() {
        for (rows, n) in [(1, 64), (2, 128), (5, 320)] {
            let values = Self.weights(rows, n)
            for set in KernelSet.supported {
                let w = Matrix(values, rows: rows, stride: n + 7, type: NIBBLE_F32)
                let codes = GuardedMemory(byteCount: rows * n)
                let scales = GuardedMemory(byteCount: rows * n / Self.group * 2)
                set.table.solver.round_weights(
                    w.floats, w.stride, rows, n, codes.start.assumingMemoryBound(to: Int8.self),
                    scales.start.assumingMemoryBound(to: UInt16.self))
                #expect(w.isIntact && codes.isIntact && scales.isIntact, "\(set.name)")
                for index in 0..<rows * n / Self.group {
                    let part = values[index * Self.group..<(index + 1) * Self.group]
                    let absmax = part.reduce(0) { max($0, abs($1)) }
                    let stored = scales.start.assumingMemoryBound(to: UInt16.self)[index]
                    #expect(stored == (absmax == 0 ? 0x3f80 : bfloat16(absmax / 7)), "\(set.name) group \(index)")
                    let scale = Float(bitPattern: UInt32(stored) << 16)
                    for (offset, value) in part.enumerated() {
                        // IEEE operations: every instruction set gives the same code.
                        let expected = max(-7, min(7, (value / scale).rounded(.toNearestOrEven)))
                        let code = codes.start.assumingMemoryBound(to: Int8.self)[index * Self.group + offset]
                        #expect(Float(code) == expected, "\(set.name) group \(index) place \(offset)")
                    }
                }
            }
        }
    }

    @Test func subtractRounded() {
        let (rows, n) = (3, 192)
        var random = Random(77)
        let before = random.normal(rows * n)
        let codes = (0..<rows * n).map { Int8($0 % 15 - 7) }
        let scales = random.normal(rows * n / Self.group).map(bfloat16)
        let products = codes.indices.map { index in
            Double(codes[index]) * Double(Float(bitPattern: UInt32(scales[index / Self.group]) << 16))
        }
        let expected = zip(before, products).map { Double($0) - $1 }
        var checker = RowChecker()
        for set in KernelSet.supported {
            let w = Matrix(before, rows: rows, stride: n + 1, type: NIBBLE_F32)
            set.table.solver.subtract_rounded(w.floats, w.stride, codes, scales, rows, n)
            checker.check(set, w.values, expected, expected.map { 2 * Self.u * abs($0) + 0x1p-126 }, "")
            #expect(w.isIntact)
        }
    }

    @Test(arguments: [1, 127, 128, 129, 300]) func transposedProduct(rows: Int) {
        for (rank, n) in [(4, 64), (16, 192), (20, 64)] {
            var random = Random(rows * 3 + rank)
            let y = Matrix(random.normal(rows * rank), type: NIBBLE_F32)
            let w = Matrix(random.normal(rows * n), rows: rows, stride: n + 9, type: NIBBLE_F32)
            var expected = [Double](repeating: 0, count: rank * n)
            var magnitude = expected
            for row in 0..<rows {
                for r in 0..<rank {
                    for column in 0..<n {
                        let term = Double(y[0, row * rank + r]) * Double(w[row, column])
                        expected[r * n + column] += term
                        magnitude[r * n + column] += abs(term)
                    }
                }
            }
            // Pieces of at most 128 terms, and their sums.
            let terms = Double(min(rows, 128) + rows / 128 + 2)
            let bound = magnitude.map { terms * Self.u * $0 }
            var checker = RowChecker()
            for set in KernelSet.supported {
                let z = Matrix(rows: rank, columns: n, stride: n + 2, type: NIBBLE_F32)
                set.table.solver.transposed_product(
                    y.floats, rank, w.floats, w.stride, rows, n, z.floats, z.stride)
                checker.check(set, z.values, expected, bound, "rows \(rows) rank \(rank) n \(n)")
                #expect(z.isIntact && w.isIntact && y.isIntact)
            }
        }
    }

    @Test func squaredDistance() {
        for n in RowCases.widths + [4096, 5000] {
            var random = Random(n)
            let x = Matrix(random.normal(n), type: NIBBLE_F32)
            let y = Matrix(random.normal(n), type: NIBBLE_F32)
            let expected = zip(x.values, y.values).reduce(0.0) {
                $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1))
            }
            for set in KernelSet.supported {
                let found = set.table.solver.squared_distance(x.floats, y.floats, n)
                // Lanes add at most 65 squares in f32, each of a difference that was rounded.
                #expect(abs(found - expected) <= 80 * Self.u * expected, "\(set.name) n \(n)")
                #expect(x.isIntact && y.isIntact)
            }
        }
    }

    /// Against the definition in float64. A code may turn over where a weight lies in the middle between two; here none
    /// does, so all are equal.
    @Test(arguments: [16, 128, 256]) func roundWithFeedback(count: Int) {
        let (rows, n) = (3, 2 * count + 64 - (2 * count) % 64)
        var random = Random(count)
        let before = random.normal(rows * count)
        let carried = Matrix(random.normal(rows * count, scale: 0.1), type: NIBBLE_F32)
        let divisor = Matrix((0..<count).map { 0.5 + Float($0 % 3) }, type: NIBBLE_F32)
        let factor = Matrix(
            random.normal(count * count, scale: 0.05).enumerated().map { $0 / count > $0 % count ? $1 : 0 },
            type: NIBBLE_F32)
        let columns = (0..<count).map { Int32(($0 * 7 + 3) % count * 2) }
        let scales = (0..<rows * n / Self.group).map { bfloat16(0.3 + Float($0 % 4) / 10) }
        var expected: [Float] = []
        for row in 0..<rows {
            var line = (0..<count).map { Double(before[row * count + $0]) }
            for j in (0..<count).reversed() {
                var target = line[j] + Double(carried[0, row * count + j]) * Double(divisor[0, j])
                for later in j + 1..<max(count, j + 1) { target += line[later] * Double(factor[0, later * count + j]) }
                let place = row * n + Int(columns[j])
                let scale = Double(Float(bitPattern: UInt32(scales[place / Self.group]) << 16))
                line[j] -= max(-7, min(7, (target / scale).rounded(.toNearestOrEven))) * scale
            }
            expected += line.map { Float($0) }
        }
        for set in KernelSet.supported {
            let w = Matrix(before, rows: rows, stride: count + 3, type: NIBBLE_F32)
            let codes = GuardedMemory(byteCount: rows * n)
            columns.withUnsafeBufferPointer { column in
                guard let column = column.baseAddress else { return }
                var feedback = nibble_feedback(
                    count: count, factor: factor.floats, divisor: divisor.floats, column: column)
                set.table.solver.round_with_feedback(
                    &feedback, w.floats, w.stride, carried.floats, rows, n,
                    codes.start.assumingMemoryBound(to: Int8.self), scales)
            }
            let bound = expected.map { 1e-6 + 1e-6 * abs(Double($0)) }
            expectClose(w.values, expected.map(Double.init), within: bound, "\(set.name) count \(count)")
            #expect(w.isIntact && codes.isIntact && factor.isIntact && carried.isIntact && divisor.isIntact)
        }
    }
}
