import CNibbleKernels
import Foundation

/// Attention in float64, and what rounding its parts to bytes may do to it.
struct Int8AttentionReference {
    private(set) var output: [Double] = []
    /// The variance of each query's error, all channels together.
    private(set) var variance: [Double] = []

    /// Rounding to steps of s is off by s²/12 in the mean square, rounding weights to whole bytes with a dither by 1/4 of a
    /// step at most. Queries have a scale each, keys one for each block of 256, values one for each channel and block. What
    /// a weight w of value v is off by moves the output by as much of v - output; a score's error, by w of it.
    init(_ test: AttentionCase) {
        let (dim, scale) = (test.headDim, Double(test.scale))
        let keys = Self.rows(test.k, dim)
        let values = Self.rows(test.v, dim)
        let blocks = stride(from: 0, to: test.keys, by: 256).map { $0..<min($0 + 256, test.keys) }
        let means = blocks.map { block in
            (0..<dim).map { column in block.reduce(0) { $0 + keys[$1][column] } / Double(block.count) }
        }
        let keySteps = zip(blocks, means).map { block, mean in
            block.flatMap { key in zip(keys[key], mean).map { abs($0 - $1) } }.reduce(0, max) / 127
        }
        let valueSteps = blocks.map { block in
            (0..<dim).map { column in block.reduce(0) { max($0, abs(values[$1][column])) } / 127 }
        }
        for query in Self.rows(test.q, dim) {
            let scores = keys.map { scale * zip($0, query).reduce(0) { $0 + $1.0 * $1.1 } }
            let maximum = scores.reduce(-.infinity, max)
            let weights = scores.map { exp($0 - maximum) }
            let sum = weights.reduce(0, +)
            let row = (0..<dim).map { column in
                zip(weights, values).reduce(0) { $0 + $1.0 * $1.1[column] } / sum
            }
            let queryStep = query.reduce(0) { max($0, abs($1)) } / 127
            let querySquares = query.reduce(0) { $0 + $1 * $1 }
            var variance = 0.0
            for (index, block) in blocks.enumerated() {
                let blockMaximum = block.reduce(0) { max($0, weights[$1]) }
                for key in block {
                    let keySquares = zip(keys[key], means[index]).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
                    let (kStep, qStep) = (keySteps[index], queryStep)
                    let score =
                        scale * scale * (querySquares * kStep * kStep + keySquares * qStep * qStep) / 12
                    let weight = weights[key] / sum
                    let step = blockMaximum / sum / 255
                    let distance = zip(values[key], row).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
                    variance += (weight * weight * score + step * step / 4) * distance
                    variance += weight * weight * valueSteps[index].reduce(0) { $0 + $1 * $1 } / 12
                }
            }
            // The output is rounded to bf16.
            variance += row.reduce(0) { $0 + $1 * $1 } * 0x1p-16 / 3
            output += row
            self.variance.append(variance)
        }
    }

    private static func rows(_ values: [Float], _ width: Int) -> [[Double]] {
        stride(from: 0, to: values.count, by: width).map { values[$0..<$0 + width].map(Double.init) }
    }
}

/// Norms and angles of a case's queries or keys, in guarded memory.
final class HeadNormCase {
    let gains: [Matrix]
    let cosine, sine: Matrix
    let boundary: Int
    static let epsilon: Float = 1e-6

    init(tokens: Int, headDim: Int, boundary: Int, _ random: inout Random) {
        gains = (0..<2).map { _ in Matrix(random.normal(headDim, scale: 0.3, mean: 1), type: NIBBLE_F32) }
        let angles = random.normal(tokens * headDim / 2, scale: 3)
        cosine = Matrix(angles.map { cos($0) }, type: NIBBLE_F32)
        sine = Matrix(angles.map { sin($0) }, type: NIBBLE_F32)
        self.boundary = boundary
    }

    var isIntact: Bool { (gains + [cosine, sine]).allSatisfy(\.isIntact) }

    var norm: nibble_head_norm {
        nibble_head_norm(
            boundary: boundary, gains: (UnsafePointer(gains[0].floats), UnsafePointer(gains[1].floats)),
            epsilon: Self.epsilon, cosine: UnsafePointer(cosine.floats), sine: UnsafePointer(sine.floats))
    }

    /// What it makes of rows, in float64.
    func applied(to rows: [Float], headDim: Int) -> [Float] {
        var result: [Float] = []
        for (token, start) in stride(from: 0, to: rows.count, by: headDim).enumerated() {
            let row = rows[start..<start + headDim].map(Double.init)
            let square = row.reduce(0) { $0 + $1 * $1 } / Double(headDim)
            let factor = 1 / (square + Double(Self.epsilon)).squareRoot()
            let gain = gains[token < boundary ? 0 : 1]
            let scaled = row.indices.map { row[$0] * factor * Double(gain[0, $0]) }
            for pair in 0..<headDim / 2 {
                let angle = token * (headDim / 2) + pair
                let (c, s) = (Double(cosine[0, angle]), Double(sine[0, angle]))
                let (x, y) = (scaled[2 * pair], scaled[2 * pair + 1])
                result += [Float(x * c - y * s), Float(x * s + y * c)]
            }
        }
        return result
    }
}

extension KernelSet {
    /// Packs and runs a case in bytes, in guarded memory, as `attend` does; nil where the set has no such attention.
    func attendInBytes(
        _ test: AttentionCase, rangeBlocks: Int? = nil, queryNorm: HeadNormCase? = nil, keyNorm: HeadNormCase? = nil
    ) -> (output: Matrix, intact: Bool)? {
        guard let attention = table.attention_int8?.pointee else { return nil }
        let stride = test.headDim + test.stridePadding
        let q = Matrix(test.q, rows: test.queries, stride: stride, type: NIBBLE_BF16)
        let k = Matrix(test.k, rows: test.keys, stride: stride + 1, type: NIBBLE_BF16)
        let v = Matrix(test.v, rows: test.keys, stride: stride + 2, type: NIBBLE_BF16)
        let output = Matrix(rows: test.queries, columns: test.headDim, stride: stride + 3, type: NIBBLE_BF16)
        var norms = [queryNorm?.norm, keyNorm?.norm].compactMap { $0 }
        return norms.withUnsafeMutableBufferPointer { norms in
            let pointer = norms.baseAddress
            var shape = nibble_int8_attention_shape(
                queries: test.queries, keys: test.keys, head_dim: test.headDim, q_stride: q.stride, k_stride: k.stride,
                v_stride: v.stride, out_stride: output.stride, scale: test.scale,
                q_norm: queryNorm == nil ? nil : pointer.map { UnsafePointer($0) },
                k_norm: keyNorm == nil ? nil : pointer.map { UnsafePointer($0 + (queryNorm == nil ? 0 : 1)) })
            let packed = GuardedMemory(byteCount: attention.packed_bytes(&shape), alignment: 64)
            let scratch = GuardedMemory(byteCount: attention.scratch_bytes(&shape), alignment: 64)
            let blocks = (test.keys + Int(NIBBLE_KEY_BLOCK) - 1) / Int(NIBBLE_KEY_BLOCK)
            for block in (0..<blocks).reversed() {
                attention.pack(&shape, k.halves, v.halves, packed.start, block, scratch.start)
            }
            let range = rangeBlocks.map { $0 * attention.query_block } ?? test.queries
            for first in Swift.stride(from: 0, to: test.queries, by: range).reversed() {
                let count = min(range, test.queries - first)
                attention.run(&shape, q.halves, packed.start, output.halves, first, count, scratch.start)
            }
            let norms = [queryNorm, keyNorm].allSatisfy { $0?.isIntact ?? true }
            let intact = packed.isIntact && scratch.isIntact && [q, k, v, output].allSatisfy(\.isIntact)
            return (output, intact && norms)
        }
    }
}

extension Matrix {
    var halves: UnsafeMutablePointer<UInt16> { memory.start.assumingMemoryBound(to: UInt16.self) }
}
