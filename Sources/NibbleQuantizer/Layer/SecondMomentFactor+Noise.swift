internal import NibbleTensors

extension SecondMomentFactor {
    /// Whether this is the factor of H + D, with the variances D of noise.
    var weighsNoise: Bool { !noise.isEmpty }

    /// What comes nearest to W x where only x with noise is there: W H (H + D)⁻¹ = W − W D (H + D)⁻¹.
    ///
    /// - Parameters:
    ///   - weights: W `[out, in]` f32; changed.
    ///   - compute: what computes.
    ///   - memory: for temporaries.
    func adaptToNoise(_ weights: Tensor, on compute: Compute, _ memory: Workspace) {
        let (order, noise, count) = (order, noise, order.count)
        for first in stride(from: 0, to: weights.rows, by: Self.outputs) {
            let weights = weights.rows(first..<min(first + Self.outputs, weights.rows))
            memory.scope {
                let y = memory.tensor([weights.rows, count], .float32)
                compute.pool.run(weights.rows) { row, _ in
                    let (source, target) = (weights.elements + row * weights.rowStride, y.elements + row * count)
                    for index in 0..<count { target[index] = source[order[index]] * noise[order[index]] }
                }
                divide(y, .byTransposed, on: compute, memory)
                divide(y, .byFactor, on: compute, memory)
                compute.pool.run(weights.rows) { row, _ in
                    let (target, source) = (weights.elements + row * weights.rowStride, y.elements + row * count)
                    for index in 0..<count { target[order[index]] -= source[index] }
                }
            }
        }
    }

    private enum Division { case byFactor, byTransposed }

    /// y L⁻¹ or y L⁻ᵀ in place, block by block: less the products of the blocks that are done, times the inverse of the
    /// diagonal's block.
    private func divide(_ y: Tensor, _ division: Division, on compute: Compute, _ memory: Workspace) {
        let count = order.count
        let blocks = inverses.indices
        for block in division == .byTransposed ? Array(blocks) : blocks.reversed() {
            let own = block * Self.block..<min((block + 1) * Self.block, count)
            let done = division == .byTransposed ? 0..<own.lowerBound : own.upperBound..<count
            memory.scope {
                let part = memory.tensor([y.rows, own.count], .float32)
                if !done.isEmpty {
                    // Left of the diagonal these rows hold L, right of it its transpose.
                    compute.product(y.columns(done), factor.rows(own).columns(done), bias: nil, into: part)
                    Self.subtract(part, from: y.columns(own), on: compute.pool)
                }
                compute.convert(y.columns(own), into: part)
                let inverse = inverses[block]
                let divisor = division == .byTransposed ? inverse : Self.transposed(inverse)
                compute.product(part, divisor, bias: nil, into: y.columns(own))
            }
        }
    }

    private static func transposed(_ matrix: Tensor) -> Tensor {
        let (size, elements) = (matrix.rows, matrix.elements)
        return Tensor(
            (0..<size * size).map { elements[$0 % size * size + $0 / size] }, shape: matrix.shape)
    }
}
