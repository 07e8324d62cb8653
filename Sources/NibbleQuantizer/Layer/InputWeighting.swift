internal import NibbleTensors

/// The inner product of rows of weights that tells how far outputs are apart: S = diag(1 / smooth) H diag(1 / smooth),
/// H being the second moment of a layer's inputs. ‖(W − W') S^½‖² is the mean squared difference of outputs.
struct InputWeighting {
    /// H `[in, in]`, or X `[tokens, in]` of a sample, of which H = Xᵀ X; f32.
    private let inputs: Tensor
    private let isSample: Bool
    private let reciprocals: Tensor

    /// - Parameters:
    ///   - statistics: the second moment, or else the sample, is what is used; nil: there are none.
    ///   - smooth: what inputs are divided by, `[in]`.
    ///   - shift: what is added to the sample.
    init?(_ statistics: InputStatistics?, smooth: [Float], shift: Float) {
        guard let statistics else { return nil }
        reciprocals = Tensor(smooth.map { 1 / $0 }, shape: [smooth.count])
        isSample = statistics.secondMoment == nil
        inputs =
            statistics.secondMoment
            ?? Tensor(statistics.sample.floats().map { $0 + shift }, shape: statistics.sample.shape)
    }

    /// y = x S, up to a factor.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]` f32.
    ///   - y: the same, another tensor.
    ///   - compute: what computes.
    func apply(to x: Tensor, into y: Tensor, on compute: Compute) {
        let scaled = Tensor(zeros: x.shape, .float32)
        compute.scaleColumns(x, by: reciprocals, into: scaled)
        if isSample {
            let outputs = Tensor(zeros: [inputs.rows, x.rows], .float32)
            compute.product(inputs, scaled, bias: nil, into: outputs)
            compute.transposedProduct(outputs, inputs, into: y)
        } else {
            compute.product(scaled, inputs, bias: nil, into: y)
        }
        compute.scaleColumns(y, by: reciprocals, into: y)
    }
}
