internal import CNibbleKernels

extension Compute {
    /// y = (x - mean) / √(variance + ε) · gain + offset, each row.
    ///
    /// - Parameters:
    ///   - x: `[rows, n]` f32.
    ///   - gain: `[n]` f32; nil: 1.
    ///   - offset: `[n]` f32; nil: 0.
    ///   - epsilon: added to the variance.
    ///   - y: `[rows, n]`, f32 or bf16.
    public func layerNorm(_ x: Tensor, gain: Tensor?, offset: Tensor?, epsilon: Float, into y: Tensor) {
        precondition(x.shape == y.shape && x.dtype == .float32)
        forRows("layer norm", x.rows, block: Self.rowBlock) { rows in
            let x = x.rows(rows)
            let y = y.rows(rows)
            kernels.layer_norm(
                x.readable(Float.self), x.rowStride, y.mutableAddress, y.dtype.kernelFloat, y.rowStride, rows.count,
                x.width, gain?.readable(Float.self), offset?.readable(Float.self), epsilon)
        }
    }

    /// y = x / √(mean(x²) + ε) · gain, each row.
    ///
    /// - Parameters:
    ///   - x: `[rows, n]` f32.
    ///   - gain: `[n]` f32.
    ///   - epsilon: added to the mean square.
    ///   - y: `[rows, n]`, f32 or bf16.
    public func rmsNorm(_ x: Tensor, gain: Tensor, epsilon: Float, into y: Tensor) {
        precondition(x.shape == y.shape && x.dtype == .float32)
        forRows("RMS norm", x.rows, block: Self.rowBlock) { rows in
            let x = x.rows(rows)
            let y = y.rows(rows)
            kernels.rms_norm(
                x.readable(Float.self), x.rowStride, y.mutableAddress, y.dtype.kernelFloat, y.rowStride, rows.count,
                x.width, gain.readable(Float.self), epsilon)
        }
    }

    /// RMS-normalizes each head of each row, then rotates adjacent pairs by the row's angles (RoFormer, arXiv
    /// 2104.09864, eq. 34), in place.
    ///
    /// - Parameters:
    ///   - x: `[rows, heads · headDim]`, f32 or bf16.
    ///   - gain: `[headDim]` f32.
    ///   - epsilon: added to the mean square.
    ///   - rotary: cosines and sines of the rows.
    public func rmsNormRotary(_ x: Tensor, gain: Tensor, epsilon: Float, rotary: RotaryAngles) {
        let headDim = gain.elementCount
        precondition(x.width % headDim == 0 && rotary.cosine.shape == [x.rows, headDim / 2])
        forRows("head norm and rotation", x.rows, block: Self.rowBlock) { rows in
            let x = x.rows(rows)
            kernels.rms_norm_rotary(
                x.mutableAddress, x.dtype.kernelFloat, x.rowStride, rows.count, x.width / headDim, headDim,
                gain.readable(Float.self), epsilon, rotary.cosine.rows(rows).readable(Float.self),
                rotary.sine.rows(rows).readable(Float.self))
        }
    }
}

/// Cosines and sines of the angles by which the pairs of a head are rotated, for some tokens.
public struct RotaryAngles: Sendable {
    /// `[tokens, headDim / 2]` f32.
    public let cosine: Tensor
    /// `[tokens, headDim / 2]` f32.
    public let sine: Tensor

    /// Both `[tokens, headDim / 2]` f32.
    public init(cosine: Tensor, sine: Tensor) {
        precondition(cosine.shape == sine.shape)
        self.cosine = cosine
        self.sine = sine
    }

    /// Those of some of the tokens.
    public func rows(_ range: Range<Int>) -> RotaryAngles {
        RotaryAngles(cosine: cosine.rows(range), sine: sine.rows(range))
    }
}
