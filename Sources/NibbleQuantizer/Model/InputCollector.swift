internal import NibbleTensors

/// Gathers what a group of layers sees while the model runs: a bounded sample of tokens, the largest magnitudes, and the
/// second moments where they are asked for. Never all inputs.
///
/// Values are added in the order in which they come, whatever the number of threads.
final class InputCollector {
    /// Rows that are worked at once: a copy of them in f32, and a transposed one where second moments are asked for, is what
    /// the collector needs besides its results.
    private static let chunk = 1024
    /// Columns of the second moments that are computed at once.
    private static let tile = 1024

    private let shift: Float
    private let maxima: Tensor
    private let sample: Tensor
    private let moment: Tensor?
    /// Numbers of the tokens that are kept, ascending.
    private let picked: [Int]
    private var kept = 0
    private var seen = 0
    /// Whether neither NaN nor infinity was seen.
    var isFinite: Bool { maxima.floats().allSatisfy(\.isFinite) }

    /// - Parameters:
    ///   - width: channels of the input.
    ///   - tokens: how many are going to come.
    ///   - kept: how many of them to keep at most.
    ///   - shift: what the layer adds to its input.
    ///   - wantsMoment: whether second moments are asked for.
    ///   - seed: where the choice of tokens comes from.
    init(width: Int, tokens: Int, kept: Int, shift: Float, wantsMoment: Bool, seed: UInt64) {
        self.shift = shift
        let count = min(tokens, kept)
        var generator = SplitMix(state: seed)
        // One of each of `count` stretches of equal length, so that every step and every part of a picture is seen.
        picked = (0..<count).map { index in
            let stretch = index * tokens / count..<(index + 1) * tokens / count
            return stretch.lowerBound + Int(generator.next() % UInt64(max(stretch.count, 1)))
        }
        maxima = Tensor(zeros: [width], .float32)
        sample = Tensor(zeros: [count, width], .float32)
        moment = wantsMoment ? Tensor(zeros: [width, width], .float32) : nil
    }

    /// Adds inputs `[rows, width]`, f32 or bf16.
    func add(_ x: Tensor, on compute: Compute) {
        for first in stride(from: 0, to: x.rows, by: Self.chunk) {
            compute.workspace.scope {
                let part = x.rows(first..<min(first + Self.chunk, x.rows))
                let values = compute.workspace.tensor(part.shape, .float32)
                compute.convert(part, into: values)
                keep(values)
                if shift != 0 { addShift(to: values, on: compute.pool) }
                compute.raise(maxima, toMagnitudesOf: values)
                addMoments(values, on: compute)
                seen += values.rows
            }
        }
    }

    /// What was gathered.
    func statistics() -> InputStatistics {
        if let moment, seen > 0 { finish(moment) }
        return InputStatistics(maxima: maxima, sample: sample.rows(0..<kept), secondMoment: moment)
    }

    private func keep(_ values: Tensor) {
        while kept < picked.count, picked[kept] < seen + values.rows {
            let row = values.rows(picked[kept] - seen..<picked[kept] - seen + 1)
            sample.rows(kept..<kept + 1).mutableAddress.copyMemory(
                from: row.address, byteCount: values.width * MemoryLayout<Float>.stride)
            kept += 1
        }
    }

    private func addShift(to values: Tensor, on pool: ThreadPool) {
        let shift = shift
        pool.run(values.rows) { row, _ in
            let elements = values.mutableAddress.assumingMemoryBound(to: Float.self) + row * values.width
            for channel in 0..<values.width { elements[channel] += shift }
        }
    }

    /// Channels become rows.
    private func transpose(_ values: Tensor, into columns: Tensor, on pool: ThreadPool) {
        // Squares of 16 × 16 floats: a line of each of 16 rows stays in the first cache while it is read.
        let side = 16
        pool.run((values.width + side - 1) / side) { part, _ in
            let source = values.address.assumingMemoryBound(to: Float.self)
            let target = columns.mutableAddress.assumingMemoryBound(to: Float.self)
            let channels = part * side..<min((part + 1) * side, values.width)
            for first in stride(from: 0, to: values.rows, by: side) {
                for channel in channels {
                    for row in first..<min(first + side, values.rows) {
                        target[channel * values.rows + row] = source[row * values.width + channel]
                    }
                }
            }
        }
    }

    /// Adds the lower triangle of Xᵀ X.
    private func addMoments(_ values: Tensor, on compute: Compute) {
        guard let moment else { return }
        let columns = compute.workspace.tensor([values.width, values.rows], .float32)
        transpose(values, into: columns, on: compute.pool)
        for first in stride(from: 0, to: columns.rows, by: Self.tile) {
            compute.workspace.scope {
                let tile = first..<min(first + Self.tile, columns.rows)
                let lower = columns.rows(first..<columns.rows)
                let product = compute.workspace.tensor([lower.rows, tile.count], .float32)
                compute.product(lower, columns.rows(tile), bias: nil, into: product, activation: .identity)
                compute.add(product, to: moment.rows(first..<columns.rows).columns(tile))
            }
        }
    }

    /// Divides by the number of tokens and mirrors the lower triangle.
    private func finish(_ moment: Tensor) {
        let width = moment.rows
        let elements = moment.mutableAddress.assumingMemoryBound(to: Float.self)
        let factor = 1 / Float(seen)
        for row in 0..<width {
            for column in 0...row {
                let value = elements[row * width + column] * factor
                elements[row * width + column] = value
                elements[column * width + row] = value
            }
        }
    }
}
