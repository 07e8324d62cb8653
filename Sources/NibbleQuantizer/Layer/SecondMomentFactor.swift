internal import NibbleTensors

/// The Cholesky factor of the second moment of a layer's smoothed inputs, in the order in which GPTQ rounds the inputs
/// (Frantar et al., arXiv 2210.17323), the largest first.
///
/// GPTQ takes the upper factor of the inverse, H⁻¹ = Uᵀ U, for the feedback -U[i, j] / U[i, i] of an input i that was
/// rounded on an input j that is to come. With the order of inputs reversed, H = L Lᵀ has the same factors, L[i, j] /
/// L[j, j] applied to what i lost, so nothing need be inverted (Chen et al., "The Geometry of LLM Quantization", arXiv
/// 2507.18553).
struct SecondMomentFactor {
    /// `[in, in]` f32: below the diagonal L, above it Lᵀ, so that rows of both lie together. Index 0 is rounded last.
    let factor: Tensor
    /// The input of each index.
    let order: [Int]
    /// Inputs that are always zero: their weights do not count.
    let isDead: [Bool]

    /// What is added to the diagonal of each input besides damping; empty: nothing.
    let noise: [Float]
    /// The inverses of the diagonal blocks of L.
    private(set) var inverses: [Tensor] = []

    /// Columns that are factorized, and rounded, at a time.
    static let block = 128
    /// Added to the diagonal, relative to its mean (GPTQ's `percdamp`).
    private static let damping = 0.01
    /// How often the damping is doubled before it is given up: 0.01 · 2^12 is 40 times the mean.
    private static let tries = 12
    /// Outputs that are rounded together: as many as a product works at once.
    static let outputs = 2304

    /// Factorizes.
    ///
    /// - Parameters:
    ///   - moment: the inputs' second moment `[in, in]` f32, without smoothing.
    ///   - smooth: what inputs are divided by, `[in]`.
    ///   - noise: the variances of what rounding adds to the smoothed inputs, `[in]`; nil: none.
    ///   - compute: what computes.
    ///   - memory: holds the factor, until the end of the scope.
    /// - Throws: `LayerError.notFactorized`, without the layer's name.
    init(
        _ moment: Tensor, smooth: [Float], noise: [Float]? = nil, on compute: Compute, _ memory: Workspace
    ) throws(LayerError) {
        let count = moment.rows
        self.noise = noise ?? []
        let diagonal = (0..<count).map { index in
            Double(moment.elements[index * moment.rowStride + index]) / Double(smooth[index] * smooth[index])
                + Double(noise?[index] ?? 0)
        }
        isDead = diagonal.map { $0 == 0 }
        order = (0..<count).sorted { (diagonal[$0], $1) < (diagonal[$1], $0) }
        factor = memory.tensor(moment.shape, .float32)
        let mean = diagonal.reduce(0) { $0 + ($1 == 0 ? 1 : $1) } / Double(count)
        var damping = Self.damping * mean
        for _ in 0..<Self.tries {
            fill(moment, smooth, damping: Float(damping), on: compute.pool)
            if factorize(on: compute, memory) { return }
            damping *= 2
        }
        throw .notFactorized(layer: "", reason: "the second moment of its inputs is not positive definite")
    }

    /// Permutes, smooths and damps.
    private func fill(_ moment: Tensor, _ smooth: [Float], damping: Float, on pool: ThreadPool) {
        let (order, isDead, factor, count, noise) = (order, isDead, factor, order.count, noise)
        pool.run(count) { row, _ in
            let source = moment.elements + order[row] * moment.rowStride
            let target = factor.elements + row * count
            let own = smooth[order[row]]
            for column in 0..<count {
                let input = order[column]
                target[column] = source[input] / (own * smooth[input])
            }
            if !noise.isEmpty { target[row] += noise[order[row]] }
            target[row] = (isDead[order[row]] ? 1 : target[row]) + damping
        }
    }

    /// A block of columns at a time: less the products of the columns before, the diagonal's factor, the rest divided by
    /// it. The products are ours; LAPACK has only the diagonal.
    private mutating func factorize(on compute: Compute, _ memory: Workspace) -> Bool {
        let (factor, count) = (factor, order.count)
        inverses = []
        for first in stride(from: 0, to: count, by: Self.block) {
            let width = min(Self.block, count - first)
            let panel = factor.columns(first..<first + width)
            let succeeded = memory.scope {
                if first > 0 {
                    let before = factor.columns(0..<first)
                    let product = memory.tensor([count - first, width], .float32)
                    compute.product(
                        before.rows(first..<count), before.rows(first..<first + width), bias: nil, into: product)
                    Self.subtract(product, from: panel.rows(first..<count), on: compute.pool)
                }
                guard let inverse = Self.factorizeDiagonal(panel.rows(first..<first + width)) else { return false }
                inverses.append(inverse)
                guard first + width < count else { return true }
                let below = first + width..<count
                let solved = memory.tensor([below.count, width], .float32)
                compute.product(panel.rows(below), inverse, bias: nil, into: solved)
                compute.convert(solved, into: panel.rows(below))
                Self.transpose(solved, into: factor.rows(first..<first + width).columns(below), on: compute.pool)
                return true
            }
            guard succeeded else { return false }
        }
        return true
    }

    static func subtract(_ y: Tensor, from x: Tensor, on pool: ThreadPool) {
        pool.run(x.rows) { row, _ in
            let (target, source) = (x.elements + row * x.rowStride, y.elements + row * y.rowStride)
            for column in 0..<x.width { target[column] -= source[column] }
        }
    }

    private static func transpose(_ x: Tensor, into y: Tensor, on pool: ThreadPool) {
        let tile = 64
        pool.run((x.rows + tile - 1) / tile) { part, _ in
            for row in part * tile..<min((part + 1) * tile, x.rows) {
                for column in 0..<x.width {
                    y.elements[column * y.rowStride + row] = x.elements[row * x.rowStride + column]
                }
            }
        }
    }

    /// Puts L in the place of a diagonal block, zeros above it, and returns its inverse; nil where there is none.
    private static func factorizeDiagonal(_ block: Tensor) -> Tensor? {
        let size = block.rows
        var matrix = block.floats().map(Double.init)
        guard let inverse = SmallMatrices.choleskyAndInverse(&matrix, size) else { return nil }
        for row in 0..<size {
            for column in 0..<size {
                block.elements[row * block.rowStride + column] = Float(matrix[row * size + column])
            }
        }
        return Tensor(inverse.map { Float($0) }, shape: [size, size])
    }
}
