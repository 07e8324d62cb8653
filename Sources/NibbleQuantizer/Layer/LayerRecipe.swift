public import NibbleTensors

/// How a layer is quantized (SVDQuant, Li et al., arXiv 2411.05007).
public struct LayerRecipe: Sendable, Hashable {
    /// Where the smoothing factors s[k] = max|x[:, k]|^α / max|W[:, k]|^β come from (§4.1).
    public enum Smoothing: Sendable, Hashable {
        /// All are 1.
        case none
        /// The pair of powers with the least output error: α = i / points with β = 0 and with β = 1 - α.
        case search(points: Int)
        /// From the weights alone, for want of inputs: α = 0.
        case weightsOnly(beta: Float)
    }

    /// What the low-rank branch approximates.
    public enum Branch: Sendable, Hashable {
        /// There is none.
        case none
        /// The smoothed weights; its residual is quantized (SVDQuant, §4.2). After the first time, what the last
        /// quantization left over, as often as the output error falls, at most this often.
        case weights(iterations: Int)
        /// As `weights`; then, in turn and at most as often, the rounding and a branch that makes the error of the outputs
        /// least for the weights as they are rounded: (W − Q − up · down) X, not W − Q − up · down. Ours; figures are in
        /// docs/quality.md.
        case outputs(iterations: Int)
        /// The error of the quantized weights (LoRC; Yao et al., arXiv 2303.08302).
        case error
    }

    /// How the residual is rounded.
    public enum Rounding: Sendable, Hashable {
        /// To the nearest code.
        case nearest
        /// One column after the other, what is lost made good in the columns to come (GPTQ; Frantar et al., arXiv
        /// 2210.17323).
        case gptq
        /// The same for inputs as a 4-bit layer sees them, which is with the noise of their rounding: with its variances D
        /// in the second moment H, and weights W H (H + D)⁻¹, which are the best for noisy inputs. Ours; better with the
        /// activations that the recipe names, and the less so with others.
        case gptqWithNoise
    }

    /// The low-rank branch's rank, a multiple of 16.
    public var rank = 32
    /// Where the smoothing factors come from.
    public var smoothing = Smoothing.search(points: 20)
    /// What the branch approximates.
    public var branch = Branch.weights(iterations: 100)
    /// How the residual is rounded.
    public var rounding = Rounding.nearest
    /// What inputs are quantized to where output errors are compared.
    public var activations = ActivationBits.int4

    /// The paper's: rank 32, 20 points, up to 100 iterations, round to nearest.
    public init() {}
}
