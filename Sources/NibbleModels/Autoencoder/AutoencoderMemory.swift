/// How much memory decoding may take for its activations. The picture is the same, but for the last bits of floats.
public enum AutoencoderMemory: Sendable, Equatable {
    /// Every activation as a whole: the fastest.
    case whole
    /// Blocks larger than the latent work in stripes as high as that many rows of the latent (8 are 64 rows of FLUX's
    /// picture): at 1024 × 1024 with less than half the memory of `whole`, in about twice its time.
    ///
    /// A picture cut into tiles that are decoded by themselves has other statistics in every group normalization and
    /// other neighbors in the attention, so its tiles differ in color and their seams have to be blended. Here the
    /// attention sees the whole latent, every normalization has the statistics of the whole picture, and a stripe is
    /// computed with the rows above and below that its convolutions read: there is no seam.
    case tiled(latentRows: Int)
    /// As few blocks in stripes as keep the activations below a number of bytes, the largest first; all of them where
    /// that is still too much.
    case automatic(limit: Int)

    /// Stripes of `automatic`: two rows above and below are computed again, of 64 in FLUX's picture.
    static let usualLatentRows = 8
}
