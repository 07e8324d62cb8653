internal import NibbleTensors

/// Latents as tokens: each holds a patch of 2 × 2 latents of all channels, channel by channel (diffusers'
/// `FluxPipeline._pack_latents`).
enum LatentPacking {
    /// - Parameter latents: `[channels, height, width]` f32, height and width even.
    /// - Returns: `[height / 2 · width / 2, channels · 4]` f32.
    static func pack(_ latents: Tensor) -> Tensor {
        let (channels, height, width) = (latents.shape[0], latents.shape[1], latents.shape[2])
        let packed = Tensor(zeros: [height / 2 * (width / 2), channels * 4], .float32)
        exchange(latents, packed, channels, height, width) { latent, token in token.pointee = latent.pointee }
        return packed
    }

    /// The inverse of `pack`.
    ///
    /// - Parameters:
    ///   - packed: `[height / 2 · width / 2, channels · 4]` f32.
    ///   - height: of the latents.
    ///   - width: of the latents.
    /// - Returns: `[channels, height, width]` f32.
    static func unpack(_ packed: Tensor, height: Int, width: Int) -> Tensor {
        let channels = packed.width / 4
        let latents = Tensor(zeros: [channels, height, width], .float32)
        exchange(latents, packed, channels, height, width) { latent, token in latent.pointee = token.pointee }
        return latents
    }

    private static func exchange(
        _ latents: Tensor, _ packed: Tensor, _ channels: Int, _ height: Int, _ width: Int,
        _ move: (_ latent: UnsafeMutablePointer<Float>, _ token: UnsafeMutablePointer<Float>) -> Void
    ) {
        let latent = latents.mutableAddress.assumingMemoryBound(to: Float.self)
        let token = packed.mutableAddress.assumingMemoryBound(to: Float.self)
        for channel in 0..<channels {
            for row in 0..<height {
                for column in 0..<width {
                    let patch = row / 2 * (width / 2) + column / 2
                    let place = channel * 4 + row % 2 * 2 + column % 2
                    move(latent + (channel * height + row) * width + column, token + patch * channels * 4 + place)
                }
            }
        }
    }
}
