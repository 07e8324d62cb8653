import CNibbleKernels
import Foundation

/// What one call of attention is given, with every number that the kernels see.
struct AttentionCase {
    var queries: Int
    var keys: Int
    var headDim: Int
    var type = NIBBLE_F32
    var causal = false
    /// A Toeplitz matrix, as T5's: [queries + keys - 1], row stride -1.
    var toeplitzBias: [Float]?
    var stridePadding = 0
    var scale: Float
    var q: [Float] = []
    var k: [Float] = []
    var v: [Float] = []

    /// Normally distributed inputs, rounded to the type.
    init(queries: Int, keys: Int, headDim: Int, type: nibble_float, spread: Double = 1) {
        self.queries = queries
        self.keys = keys
        self.headDim = headDim
        self.type = type
        scale = 1 / Float(headDim).squareRoot()
        var random = Random(queries * 1_000_003 + keys * 1009 + headDim)
        q = round(random.normal(queries * headDim, scale: spread))
        k = round(random.normal(keys * headDim, scale: spread))
        v = round(random.normal(keys * headDim))
    }

    func round(_ values: [Float]) -> [Float] {
        type == NIBBLE_F32 ? values : values.map { Float(bitPattern: UInt32(bfloat16($0)) << 16) }
    }

    var label: String {
        "\(type.label) queries \(queries) keys \(keys) headDim \(headDim) causal \(causal) "
            + "bias \(toeplitzBias != nil) padding \(stridePadding)"
    }

    func bias(_ query: Int, _ key: Int) -> Float { toeplitzBias.map { $0[queries - 1 - query + key] } ?? 0 }
}

/// Attention in float64 and how far a kernel may be off.
struct AttentionReference {
    var output: [Double] = []
    var bound: [Double] = []

    /// The bound. u is f32's unit roundoff, w that of the type, in which weights may be held and the output is.
    ///
    /// A score is a sum of d products, scaled, and moved by the maximum and a bias: it is off by at most
    /// (d + 4) u scale Σ|q k| + 4 u (|score| + |maximum| + |bias|) =: δ. Exponentials double the largest δ in the worst case, where
    /// numerator and denominator are off in opposite directions, and add 4 u of their own. The two sums of n
    /// weights add 2 (n + 8) u, rounding the weights 2 w, the output's rounding w |output|.
    init(_ test: AttentionCase) {
        let u = 0x1p-24
        let w = unitRoundoff(test.type)
        for query in 0..<test.queries {
            let visible = test.causal ? min(query + 1, test.keys) : test.keys
            let scores = (0..<visible).map { Self.score(test, query, $0) }
            let maximum = scores.map(\.value).max() ?? 0
            let weights = scores.map { exp($0.value - maximum) }
            let sum = weights.reduce(0, +)
            let largest = scores.map { max(abs($0.value), $0.magnitude) }.max() ?? 0
            let delta = (Double(test.headDim) + 12) * u * largest
            let relative = exp(2 * delta) - 1 + (2 * Double(visible) + 24) * u + 2 * w
            var row = [Double](repeating: 0, count: test.headDim)
            var magnitudes = row
            for (key, weight) in weights.enumerated() {
                for column in 0..<test.headDim {
                    let product = weight / sum * Double(test.v[key * test.headDim + column])
                    row[column] += product
                    magnitudes[column] += abs(product)
                }
            }
            output += row
            bound += zip(row, magnitudes).map { relative * $1 + w * abs($0) + smallestNormal }
        }
    }

    /// A score, and the sum of the magnitudes of all that it is the sum of.
    private static func score(_ test: AttentionCase, _ query: Int, _ key: Int) -> (value: Double, magnitude: Double) {
        var sum = 0.0
        var magnitude = 0.0
        for index in 0..<test.headDim {
            let product = Double(test.q[query * test.headDim + index]) * Double(test.k[key * test.headDim + index])
            sum += product
            magnitude += abs(product)
        }
        let scale = Double(test.scale)
        let bias = Double(test.bias(query, key))
        return (sum * scale + bias, magnitude * abs(scale) + abs(bias))
    }
}

extension KernelSet {
    /// Packs and runs a case, all queries at once or in ranges of `rangeBlocks` query blocks, in guarded memory.
    func attend(_ test: AttentionCase, rangeBlocks: Int? = nil) -> (output: Matrix, intact: Bool) {
        let attention = self.attention(test.type)
        let stride = test.headDim + test.stridePadding
        let q = Matrix(test.q, rows: test.queries, stride: stride, type: test.type)
        let k = Matrix(test.k, rows: test.keys, stride: stride + 1, type: test.type)
        let v = Matrix(test.v, rows: test.keys, stride: stride + 2, type: test.type)
        let output = Matrix(rows: test.queries, columns: test.headDim, stride: stride + 3, type: test.type)
        let bias = test.toeplitzBias.map { Matrix($0, type: NIBBLE_F32) }
        var shape = nibble_attention_shape(
            queries: test.queries, keys: test.keys, head_dim: test.headDim, q_stride: q.stride, k_stride: k.stride,
            v_stride: v.stride, out_stride: output.stride, scale: test.scale,
            bias: bias.map { UnsafePointer($0.floats) + (test.queries - 1) }, bias_row_stride: -1, causal: test.causal)
        let packed = GuardedMemory(byteCount: attention.packed_bytes(&shape), alignment: 64)
        let scratch = GuardedMemory(byteCount: attention.scratch_bytes(&shape), alignment: 64)
        attention.pack(&shape, k.pointer, v.pointer, packed.start)
        let range = rangeBlocks.map { $0 * attention.query_block } ?? test.queries
        for first in Swift.stride(from: 0, to: test.queries, by: range).reversed() {
            let count = min(range, test.queries - first)
            attention.run(&shape, q.pointer, packed.start, output.pointer, first, count, scratch.start)
        }
        let intact = packed.isIntact && scratch.isIntact && [q, k, v, output].allSatisfy(\.isIntact)
        return (output, intact && bias.map(\.isIntact) ?? true)
    }
}
