internal import NibbleCheckpoints
internal import NibbleTensors

/// What quantizing a layer's inputs adds to them.
enum ActivationNoise {
    /// The mean square of what rounding changes in each smoothed channel, over a sample.
    ///
    /// - Parameters:
    ///   - sample: `[tokens, in]`, f32 or bf16, without shift.
    ///   - smooth: what inputs are divided by, `[in]`.
    ///   - shift: what is added to them before; not 0 where codes have no sign.
    ///   - bits: of the codes.
    /// - Returns: `[in]`.
    static func variances(of sample: Tensor, smooth: [Float], shift: Float, _ bits: ActivationBits) -> [Float] {
        let levels: Float = bits == .int8 ? 127 : shift != 0 ? 15 : 7
        let inputs = smooth.count
        var sums = [Double](repeating: 0, count: inputs)
        for token in 0..<sample.rows {
            let row = sample.rows(token..<token + 1).floats()
            let values = (0..<inputs).map { (row[$0] + shift) / smooth[$0] }
            for first in stride(from: 0, to: inputs, by: Int4Weights.groupSize) {
                let group = first..<first + Int4Weights.groupSize
                let scale = values[group].reduce(0) { max($0, abs($1)) } / levels
                guard scale > 0 else { continue }
                for channel in group {
                    let change = values[channel] - (values[channel] / scale).rounded(.toNearestOrEven) * scale
                    sums[channel] += Double(change * change)
                }
            }
        }
        return sums.map { Float($0 / Double(sample.rows)) }
    }
}
