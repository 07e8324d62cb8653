internal import NibbleTensors

/// Inner products of a few long vectors in f64.
enum Gram {
    /// Parts that a sum is split into, whoever makes them, and which are then added in their order.
    private static let parts = 16

    /// xᵀ x of a matrix `[n, size]` f32: `[size, size]`.
    static func ofColumns(_ x: Tensor, on pool: ThreadPool) -> [Double] {
        let (size, stride) = (x.width, x.rowStride)
        return sum(x.rows, size, on: pool) { term, left, right in
            let source = x.elements + term * stride
            for index in 0..<size {
                left[index] = Double(source[index])
                right[index] = left[index]
            }
        }
    }

    /// x yᵀ of matrices `[size, n]` f32: `[size, size]`.
    static func ofRows(_ x: Tensor, _ y: Tensor, on pool: ThreadPool) -> [Double] {
        sum(x.width, x.rows, on: pool) { term, left, right in
            for index in 0..<x.rows {
                left[index] = Double(x.elements[index * x.rowStride + term])
                right[index] = Double(y.elements[index * y.rowStride + term])
            }
        }
    }

    /// Σ leftᵀ right over all terms, each of which `fill` writes as two vectors of `size`.
    private static func sum(
        _ count: Int, _ size: Int, on pool: ThreadPool,
        _ fill: @escaping @Sendable (Int, UnsafeMutablePointer<Double>, UnsafeMutablePointer<Double>) -> Void
    ) -> [Double] {
        let sums = Tensor(zeros: [parts, size * size], .float64)
        let scratch = Tensor(zeros: [parts, 2 * size], .float64)
        pool.run(parts) { part, _ in
            let left = scratch.mutableAddress.assumingMemoryBound(to: Double.self) + part * 2 * size
            let right = left + size
            let sum = sums.mutableAddress.assumingMemoryBound(to: Double.self) + part * size * size
            for term in part * count / parts..<(part + 1) * count / parts {
                fill(term, left, right)
                for row in 0..<size {
                    let factor = left[row]
                    let target = sum + row * size
                    for column in 0..<size { target[column] += factor * right[column] }
                }
            }
        }
        var total = [Double](repeating: 0, count: size * size)
        for part in 0..<parts {
            let sum = sums.address.assumingMemoryBound(to: Double.self) + part * size * size
            for index in total.indices { total[index] += sum[index] }
        }
        return total
    }
}
