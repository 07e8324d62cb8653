internal import NibbleTensors

/// A low-rank branch as the file stores it, and as the smoothed weights see what is stored.
struct LowRankPair {
    /// Of inputs that were not smoothed: `[rank, in]` BF16.
    let down: Tensor
    /// `[out, rank]` BF16.
    let up: Tensor
    /// What of the smoothed weights is in the branch is up · smoothedDown, `[rank, in]` f32.
    let smoothedDown: Tensor
    /// The numbers of `up` in f32.
    let upValues: Tensor

    /// Rounds a pair to what is stored.
    ///
    /// - Parameters:
    ///   - left: `[out, rank]` f32.
    ///   - right: `[rank, in]` f32, of smoothed inputs.
    ///   - smooth: what inputs are divided by, `[in]`.
    ///   - compute: what computes.
    init(left: Tensor, right: Tensor, smooth: [Float], on compute: Compute) {
        up = Tensor(zeros: left.shape, .bfloat16)
        down = Tensor(zeros: right.shape, .bfloat16)
        upValues = Tensor(zeros: left.shape, .float32)
        smoothedDown = Tensor(zeros: right.shape, .float32)
        compute.convert(left, into: up)
        compute.convert(up, into: upValues)
        let stored = down.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        for index in 0..<right.elementCount {
            let factor = smooth[index % smooth.count]
            stored[index] = BFloat16(Float(Double(right.elements[index]) / Double(factor)))
            smoothedDown.elements[index] = Float(stored[index]) * factor
        }
    }

    /// A branch that adds nothing.
    init(zerosOfRank rank: Int, outputs: Int, inputs: Int) {
        up = Tensor(zeros: [outputs, rank], .bfloat16)
        down = Tensor(zeros: [rank, inputs], .bfloat16)
        upValues = Tensor(zeros: [outputs, rank], .float32)
        smoothedDown = Tensor(zeros: [rank, inputs], .float32)
    }

    /// up · down · (1, 1, …, 1): what a constant input of 1 gives, `[out]`.
    func rowSums() -> [Double] {
        let sums = (0..<down.rows).map { down.rows($0..<$0 + 1).floats().reduce(0) { $0 + Double($1) } }
        return (0..<up.rows).map { row in
            sums.indices.reduce(0) { $0 + Double(upValues.elements[row * sums.count + $1]) * sums[$1] }
        }
    }
}
