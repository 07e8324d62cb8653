internal import NibbleTensors

/// Shift, scale and gate vectors from the conditioning vector (adaLN-Zero, Peebles and Xie, arXiv 2212.09748, §3.2;
/// diffusers' `AdaLayerNormZero`). The scale is stored with the 1 already added, as the factor that it is used as.
struct Modulation: Sendable {
    let linear: any LinearLayer
    let chunks: Int
    /// Which chunks are scales.
    let scales: [Int]
    let hidden: Int

    init(_ linear: any LinearLayer, hidden: Int, chunks: Int, scales: [Int]) {
        self.linear = linear
        self.chunks = chunks
        self.scales = scales
        self.hidden = hidden
    }

    /// - Parameters:
    ///   - conditioning: SiLU of the conditioning vector, `[1, hidden]` f32.
    ///   - compute: what to compute with.
    /// - Returns: the chunks, each `[hidden]` f32, in the workspace.
    func callAsFunction(_ conditioning: Tensor, on compute: Compute) -> [Tensor] {
        let all = compute.workspace.tensor([1, chunks * hidden], .float32)
        linear(conditioning, into: all, on: compute)
        let vectors = all.reshaped([chunks, hidden])
        for scale in scales { compute.add(constant: 1, to: vectors.rows(scale..<scale + 1)) }
        return (0..<chunks).map { vectors.rows($0..<$0 + 1).reshaped([hidden]) }
    }
}

/// A layer norm without weights of its own, then x · scale + shift.
let modulatedNormEpsilon: Float = 1e-6

extension Compute {
    /// Normalizes the residual stream and modulates it, into operands of the next product.
    func modulatedNorm(_ x: Tensor, scale: Tensor, shift: Tensor) -> Tensor {
        let y = workspace.tensor(x.shape, precision.activation)
        layerNorm(x, gain: scale, offset: shift, epsilon: modulatedNormEpsilon, into: y)
        return y
    }
}
