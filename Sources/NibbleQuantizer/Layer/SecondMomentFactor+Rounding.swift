internal import NibbleTensors

extension SecondMomentFactor {
    /// Rounds weights, where what is lost at one input is made good at those to come.
    ///
    /// - Parameters:
    ///   - weights: `[out, in]` f32.
    ///   - codes: `[out, in]` I8; written.
    ///   - scales: `[out, in / 64]` BF16, given beforehand.
    ///   - compute: what computes.
    ///   - memory: for temporaries.
    func round(_ weights: Tensor, codes: Tensor, scales: Tensor, on compute: Compute, _ memory: Workspace) {
        for first in stride(from: 0, to: weights.rows, by: Self.outputs) {
            let rows = first..<min(first + Self.outputs, weights.rows)
            memory.scope {
                let permuted = memory.tensor([rows.count, order.count], .float32)
                permute(weights.rows(rows), into: permuted, on: compute.pool)
                round(permuted, codes.rows(rows), scales.rows(rows), on: compute, memory)
            }
        }
    }

    private func permute(_ weights: Tensor, into permuted: Tensor, on pool: ThreadPool) {
        let (order, isDead) = (order, isDead)
        pool.run(weights.rows) { row, _ in
            let source = weights.elements + row * weights.rowStride
            let target = permuted.elements + row * order.count
            for index in 0..<order.count {
                let input = order[index]
                target[index] = isDead[input] ? 0 : source[input]
            }
        }
    }

    private func round(_ permuted: Tensor, _ codes: Tensor, _ scales: Tensor, on compute: Compute, _ memory: Workspace)
    {
        let count = order.count
        for first in stride(from: 0, to: count, by: Self.block).reversed() {
            let end = min(first + Self.block, count)
            memory.scope {
                let carried = memory.tensor([permuted.rows, end - first], .float32)
                if end < count {
                    compute.product(
                        permuted.columns(end..<count), factor.rows(first..<end).columns(end..<count), bias: nil,
                        into: carried)
                } else {
                    carried.elements.update(repeating: 0, count: carried.elementCount)
                }
                let (feedback, divisor, columns) = feedback(first..<end)
                compute.roundWithFeedback(
                    permuted.columns(first..<end), carried: carried, factor: feedback, divisor: divisor,
                    columns: columns, codes: codes, scales: scales)
            }
        }
    }

    /// The arrays of `Compute.roundWithFeedback`.
    private func feedback(_ range: Range<Int>) -> (factor: Tensor, divisor: Tensor, columns: Tensor) {
        let size = range.count
        let diagonal = factor.rows(range).columns(range)
        let divisor = Tensor((0..<size).map { 1 / diagonal.elements[$0 * diagonal.rowStride + $0] }, shape: [size])
        let matrix = Tensor(zeros: [size, size], .float32)
        for row in 0..<size {
            for column in 0..<row {
                matrix.elements[row * size + column] =
                    diagonal.elements[row * diagonal.rowStride + column] * divisor.elements[column]
            }
        }
        let columns = Tensor(zeros: [size], .int32)
        let target = columns.mutableAddress.assumingMemoryBound(to: Int32.self)
        for (index, place) in range.enumerated() { target[index] = Int32(order[place]) }
        return (matrix, divisor, columns)
    }
}
