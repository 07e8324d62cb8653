import CNibbleKernels
import Testing

/// Layer and RMS normalization, and the rotary embedding, against float64.
@Suite struct NormTests {
    private static let u = 0x1p-24

    /// float64 layer norm of a row. The mean is off by at most δ = sumRoundoff Σ|x| / n, the factor relatively by half
    /// of what the variance is: sumRoundoff + 2 δ / σ + (δ / σ)²; a few roundings go to the rest.
    private func layerNorm(_ x: [Float], gain: [Float]?, offset: [Float]?, epsilon: Float, type: nibble_float)
        -> [(value: Double, bound: Double)]
    {
        let n = Double(x.count)
        let mean = x.reduce(0) { $0 + Double($1) } / n
        let meanError = sumRoundoff(x.count) * x.reduce(0) { $0 + abs(Double($1)) } / n
        let deviation = (x.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / n + Double(epsilon))
            .squareRoot()
        let ratio = meanError / deviation
        let relative = (sumRoundoff(x.count) + 2 * ratio + ratio * ratio) / 2 + 8 * Self.u
        return x.indices.map { index in
            let factor = Double(gain?[index] ?? 1)
            let centered = (Double(x[index]) - mean) / deviation * factor
            let added = Double(offset?[index] ?? 0)
            let bound = abs(factor) * ratio + abs(centered) * relative + 2 * Self.u * (abs(centered) + abs(added))
            return (centered + added, storedBound(bound, centered + added, type))
        }
    }

    @Test(arguments: RowCases.types, [false, true]) func layerNorm(type: nibble_float, withGain: Bool) {
        for n in RowCases.widths + [3072] {
            for (rows, mean, scale) in [(1, 0.0, 1.0), (2, 100, 0.5), (5, -3, 1e-4), (1, 1e6, 1), (1, 0, 0)] {
                var random = Random(n * 31 + rows)
                let values = random.normal(rows * n, scale: scale, mean: mean)
                let gain = withGain ? random.normal(n) : nil
                let offset = withGain ? random.normal(n) : nil
                let expected = (0..<rows).flatMap { row in
                    layerNorm(
                        Array(values[row * n..<(row + 1) * n]), gain: gain, offset: offset, epsilon: 1e-6, type: type)
                }
                var checker = RowChecker()
                for set in KernelSet.supported {
                    let x = Matrix(values, rows: rows, stride: n + 3, type: NIBBLE_F32)
                    let y = Matrix(rows: rows, columns: n, stride: n + 1, type: type)
                    let gain = gain.map { Matrix($0, type: NIBBLE_F32) }
                    let offset = offset.map { Matrix($0, type: NIBBLE_F32) }
                    set.table.layer_norm(
                        x.floats, x.stride, y.pointer, type, y.stride, rows, n, gain?.floats, offset?.floats, 1e-6)
                    let label = "\(type.label) rows \(rows) n \(n) mean \(mean) scale \(scale)"
                    checker.check(set, y.values, expected.map(\.value), expected.map(\.bound), label)
                    #expect(x.isIntact && y.isIntact, "\(set.name) \(label)")
                }
            }
        }
    }

    /// float64 RMS norm of a row. The sum's terms are positive, so it is off by sumRoundoff relatively, its root by half.
    private func rmsNorm(_ x: [Float], gain: [Float], epsilon: Float) -> (values: [Double], relative: Double) {
        let meanSquare = x.reduce(0) { $0 + Double($1) * Double($1) } / Double(x.count)
        let root = (meanSquare + Double(epsilon)).squareRoot()
        return (zip(x, gain).map { Double($0) / root * Double($1) }, sumRoundoff(x.count) / 2 + 8 * Self.u)
    }

    @Test(arguments: RowCases.types) func rmsNorm(type: nibble_float) {
        for n in RowCases.widths + [4096] {
            for (rows, scale) in [(1, 1.0), (2, 1e4), (5, 1e-4), (1, 0)] {
                var random = Random(n * 37 + rows)
                let values = random.normal(rows * n, scale: scale)
                let factors = random.normal(n)
                let references = (0..<rows).map { row in
                    rmsNorm(Array(values[row * n..<(row + 1) * n]), gain: factors, epsilon: 1e-6)
                }
                let expected = references.flatMap(\.values)
                let bound = references.flatMap { reference in
                    reference.values.map { storedBound(abs($0) * reference.relative, $0, type) }
                }
                var checker = RowChecker()
                for set in KernelSet.supported {
                    let x = Matrix(values, rows: rows, stride: n + 3, type: NIBBLE_F32)
                    let y = Matrix(rows: rows, columns: n, stride: n + 1, type: type)
                    let gain = Matrix(factors, type: NIBBLE_F32)
                    set.table.rms_norm(
                        x.floats, x.stride, y.pointer, type, y.stride, rows, n, gain.floats, 1e-6)
                    checker.check(set, y.values, expected, bound, "\(type.label) rows \(rows) n \(n) scale \(scale)")
                    #expect(x.isIntact && y.isIntact, "\(set.name) n \(n)")
                }
            }
        }
    }

    @Test(arguments: RowCases.types) func rmsNormRotary(type: nibble_float) {
        for (heads, headDim) in [(1, 2), (3, 8), (2, 12), (3, 16), (2, 18), (2, 64), (2, 72), (24, 128), (1, 512)] {
            for rows in [1, 3] {
                rotate(rows: rows, heads: heads, headDim: headDim, type: type)
            }
        }
    }

    private func rotate(rows: Int, heads: Int, headDim: Int, type: nibble_float) {
        var random = Random(heads * 1000 + headDim)
        let values = Matrix(random.normal(rows * heads * headDim), rows: rows, type: type).values
        let factors = random.normal(headDim, mean: 1)
        // Not on the unit circle, so that a mix-up of the two shows.
        let cosines = random.normal(rows * headDim / 2)
        let sines = random.normal(rows * headDim / 2)
        var expected: [Double] = []
        var bound: [Double] = []
        for row in 0..<rows {
            for head in 0..<heads {
                let start = (row * heads + head) * headDim
                let (normal, relative) = rmsNorm(
                    Array(values[start..<start + headDim]), gain: factors, epsilon: 1e-6)
                for pair in 0..<headDim / 2 {
                    let (x0, x1) = (normal[2 * pair], normal[2 * pair + 1])
                    let cosine = Double(cosines[row * headDim / 2 + pair])
                    let sine = Double(sines[row * headDim / 2 + pair])
                    for (value, size) in [
                        (x0 * cosine - x1 * sine, abs(x0 * cosine) + abs(x1 * sine)),
                        (x0 * sine + x1 * cosine, abs(x0 * sine) + abs(x1 * cosine)),
                    ] {
                        expected.append(value)
                        bound.append(storedBound((relative + 2 * Self.u) * size, value, type))
                    }
                }
            }
        }
        var checker = RowChecker()
        for set in KernelSet.supported {
            let x = Matrix(values, rows: rows, stride: heads * headDim + 5, type: type)
            let gain = Matrix(factors, type: NIBBLE_F32)
            let cosine = Matrix(cosines, type: NIBBLE_F32)
            let sine = Matrix(sines, type: NIBBLE_F32)
            set.table.rms_norm_rotary(
                x.pointer, type, x.stride, rows, heads, headDim, gain.floats, 1e-6, cosine.floats, sine.floats)
            checker.check(set, x.values, expected, bound, "\(type.label) rows \(rows) heads \(heads) dim \(headDim)")
            #expect(x.isIntact, "\(set.name) headDim \(headDim)")
        }
    }
}
