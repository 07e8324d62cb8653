/// How much memory decoding may take for its activations. The picture is the same, but for the last bits of floats.
public enum AutoencoderMemory: Sendable, Equatable {
    /// Every activation as a whole: the fastest.
    case whole
    /// Blocks larger than the latent work in stripes of that many rows of the latent (8 are 64 rows of FLUX's picture).
    /// Takes about 2/5 of the memory of `whole` at 1024 × 1024, and twice its arithmetic.
    case tiled(latentRows: Int)
    /// As few blocks in stripes as keep the activations below a number of bytes, the largest first; all of them where
    /// that is still too much.
    case automatic(limit: Int)

    /// Stripes of `automatic`: two rows above and below are computed again, of 64 in FLUX's picture.
    static let usualLatentRows = 8
}
