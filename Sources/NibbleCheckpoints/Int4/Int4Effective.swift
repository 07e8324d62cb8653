internal import NibbleTensors

extension Int4Weights {
    /// What the layer is without quantized activations, as one matrix: q · scale / smooth + up · down.
    ///
    /// - Parameters:
    ///   - target: `[out, in]`, F32 or BF16, each row contiguous; written. BF16 is rounded once, at the end.
    ///   - pool: the threads that compute.
    func writeEffectiveWeight(into target: Tensor, on pool: ThreadPool) {
        let factors = Factors(self)
        EffectiveRows.write(into: target, on: pool) { row, values in factors.row(row, into: values) }
    }

    /// The layer's bias without what undoes the shift of its input: stored + shift · Σₖ q · scale / smooth, `[out]`.
    ///
    /// - Parameter shift: the layer's; see `Int4Layer.shift`.
    /// - Returns: what a layer of the effective weight adds.
    func effectiveBias(shift: Float) -> [Float] {
        let stored = bias.floats()
        guard shift != 0 else { return stored }
        let (groups, inputs) = (scales.shape[1], inputs)
        let codes = codes.address.assumingMemoryBound(to: Int8.self)
        let scales = scales.floats()
        let inverse = smooth.floats().map { 1 / Double($0) }
        return stored.indices.map { row in
            var sum = 0.0
            for group in 0..<groups {
                var part = 0.0
                let first = group * Self.groupSize
                for column in first..<first + Self.groupSize {
                    part += Double(codes[row * inputs + column]) * inverse[column]
                }
                sum += part * Double(scales[row * groups + group])
            }
            return Float(Double(stored[row]) + Double(shift) * sum)
        }
    }

    /// The parts in f32, unpacked once for all rows.
    private struct Factors: Sendable {
        let codes: Tensor
        let scales, smooth, down, up: [Float]
        let rank: Int

        init(_ weights: Int4Weights) {
            codes = weights.codes
            scales = weights.scales.floats()
            smooth = weights.smooth.floats()
            down = weights.down.floats()
            up = weights.up.floats()
            rank = weights.rank
        }

        func row(_ row: Int, into values: UnsafeMutableBufferPointer<Float>) {
            let count = values.count
            let codes = codes.address.assumingMemoryBound(to: Int8.self) + row * count
            let groups = count / Int4Weights.groupSize
            smooth.withUnsafeBufferPointer { smooth in
                for column in 0..<count {
                    let scale = scales[row * groups + column / Int4Weights.groupSize]
                    values[column] = Float(codes[column]) * scale / smooth[column]
                }
            }
            down.withUnsafeBufferPointer { down in
                for component in 0..<rank {
                    let factor = up[row * rank + component]
                    let line = UnsafeBufferPointer(rebasing: down[component * count..<(component + 1) * count])
                    for column in 0..<count { values[column] += factor * line[column] }
                }
            }
        }
    }
}

extension Int4ModulationWeights {
    /// The matrix q · scale + zero.
    ///
    /// - Parameters:
    ///   - target: `[out, in]`, F32 or BF16; written. BF16 is rounded once, at the end.
    ///   - pool: the threads that compute.
    func writeEffectiveWeight(into target: Tensor, on pool: ThreadPool) {
        let codes = codes
        let (scales, zeros) = (scales.floats(), zeros.floats())
        let groups = inputs / ModulationLayout.groupSize
        EffectiveRows.write(into: target, on: pool) { row, values in
            let line = codes.address.assumingMemoryBound(to: UInt8.self) + row * values.count
            for column in 0..<values.count {
                let group = row * groups + column / ModulationLayout.groupSize
                values[column] = Float(line[column]) * scales[group] + zeros[group]
            }
        }
    }
}

/// Makes a matrix row by row in f32, and stores it in the type that is asked for.
enum EffectiveRows {
    /// Rows that a worker makes at a time.
    private static let block = 32

    static func write(
        into target: Tensor, on pool: ThreadPool,
        _ makeRow: @escaping @Sendable (_ row: Int, _ values: UnsafeMutableBufferPointer<Float>) -> Void
    ) {
        precondition(target.dtype == .float32 || target.dtype == .bfloat16)
        let (rows, width) = (target.rows, target.width)
        pool.run((rows + block - 1) / block) { part, _ in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { values in
                for row in part * block..<min(rows, (part + 1) * block) {
                    makeRow(row, values)
                    store(values, in: target.rows(row..<row + 1))
                }
            }
        }
    }

    static func store(_ values: UnsafeMutableBufferPointer<Float>, in row: Tensor) {
        if row.dtype == .float32 {
            row.mutableAddress.copyMemory(
                from: UnsafeRawBufferPointer(values).baseAddress ?? row.address, byteCount: 4 * values.count)
        } else {
            let target = row.mutableAddress.assumingMemoryBound(to: BFloat16.self)
            for index in 0..<values.count { target[index] = BFloat16(values[index]) }
        }
    }
}
