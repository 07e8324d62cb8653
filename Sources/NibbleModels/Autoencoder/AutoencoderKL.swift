public import NibbleCheckpoints
public import NibbleTensors

/// diffusers' `AutoencoderKL`: pictures to latents and back ("High-Resolution Image Synthesis with Latent Diffusion
/// Models", arXiv 2112.10752, section 3.1).
///
/// Activations are kept in f32, or in bf16 where that is the precision.
public struct AutoencoderKL: Sendable {
    /// The configuration.
    public let config: AutoencoderConfig
    /// What the weights were read through.
    public let weights: WeightReader

    private let encoder: [NamedLayer]
    private let decoder: [NamedLayer]

    /// Reads the weights under diffusers' names.
    ///
    /// - Parameters:
    ///   - config: the configuration.
    ///   - weights: a reader of the component's tensors.
    /// - Throws: what is wrong with a tensor.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    public init(_ config: AutoencoderConfig, weights: WeightReader) throws(CheckpointError) {
        self.config = config
        self.weights = weights
        encoder = try config.encoderLayers(weights)
        decoder = try config.decoderLayers(weights)
    }

    // MARK: - Decoding

    /// Makes the picture of a latent.
    ///
    /// - Parameters:
    ///   - latent: `[latentChannels, height, width]`, as it comes out of `unscaled`.
    ///   - memory: how much memory the activations may take.
    ///   - compute: what to compute with.
    ///   - beforeBlock: called before each layer and each stripe of one; what it throws ends the work.
    /// - Returns: `[height · scale, width · scale, 3]` f32, about -1…1.
    public func decode(
        _ latent: Tensor, memory: AutoencoderMemory = .whole, on compute: Compute,
        beforeBlock: () throws -> Void
    ) rethrows -> Tensor {
        precondition(latent.shape.rank == 3 && latent.shape[0] == config.latentChannels && latent.elementCount > 0)
        let (height, width) = (latent.shape[1], latent.shape[2])
        let input = FeatureMap(Self.channelsLast(latent), height: height, width: width)
        let plan = decoderPlan(height: height, width: width, memory, on: compute)
        let picture = try plan.run(input, on: compute, beforeBlock: beforeBlock)
        return picture.tensor.reshaped([picture.height, picture.width, picture.channels])
    }

    /// About the memory that decoding takes at its peak, the picture included, the weights not.
    ///
    /// - Parameters:
    ///   - latentHeight: rows of the latent.
    ///   - latentWidth: columns of the latent.
    ///   - memory: how much memory the activations may take.
    ///   - compute: what will compute it.
    /// - Returns: bytes.
    public func decodingMemory(
        latentHeight: Int, latentWidth: Int, memory: AutoencoderMemory, on compute: Compute
    ) -> Int {
        decoderPlan(height: latentHeight, width: latentWidth, memory, on: compute).byteCount
    }

    private func decoderPlan(
        height: Int, width: Int, _ memory: AutoencoderMemory, on compute: Compute
    ) -> FeaturePlan {
        let input = FeatureExtent(height: height, width: width, channels: config.latentChannels)
        func plan(stripedFrom pixels: Int, _ rows: Int) -> FeaturePlan {
            FeaturePlan(decoder, input: input, stripedFrom: pixels, stripeRows: rows, on: compute)
        }
        switch memory {
        case .whole:
            return plan(stripedFrom: .max, 0)
        case .tiled(let rows):
            return plan(stripedFrom: input.pixels + 1, rows)
        case .automatic(let limit):
            var best = plan(stripedFrom: .max, 0)
            for level in 1..<max(config.blockOutChannels.count, 1) where best.byteCount > limit {
                let pixels = input.pixels << (2 * (config.blockOutChannels.count - level))
                best = plan(stripedFrom: pixels, AutoencoderMemory.usualLatentRows)
            }
            return best
        }
    }

    // MARK: - Encoding

    /// A normal distribution of latents.
    public struct Posterior: Sendable {
        /// `[latentChannels, height, width]` f32.
        public let mean: Tensor
        /// Logarithm of the variance, as `mean`, between -30 and 20.
        public let logVariance: Tensor
    }

    /// Finds the latents of a picture.
    ///
    /// - Parameters:
    ///   - picture: `[height, width, 3]` f32, -1…1, at least `config.scale` high and wide.
    ///   - compute: what to compute with.
    ///   - beforeBlock: called before each layer and each stripe of one; what it throws ends the work.
    /// - Returns: their distribution.
    public func encode(
        _ picture: Tensor, on compute: Compute, beforeBlock: () throws -> Void
    ) rethrows -> Posterior {
        precondition(picture.shape.rank == 3 && picture.shape[2] == AutoencoderConfig.pictureChannels)
        let (height, width) = (picture.shape[0], picture.shape[1])
        precondition(min(height, width) >= config.scale)
        let plan = FeaturePlan(
            encoder, input: FeatureExtent(height: height, width: width, channels: AutoencoderConfig.pictureChannels),
            on: compute)
        let input = FeatureMap(
            picture.reshaped([height * width, AutoencoderConfig.pictureChannels]), height: height, width: width)
        let moments = try plan.run(input, on: compute, beforeBlock: beforeBlock)
        let values = moments.tensor.floats()
        let count = config.latentChannels
        func part(_ channels: Range<Int>, _ transform: (Float) -> Float) -> Tensor {
            let pixels = moments.tensor.rows
            let planes = channels.flatMap { channel in
                (0..<pixels).map { transform(values[$0 * moments.channels + channel]) }
            }
            return Tensor(planes, shape: [count, moments.height, moments.width])
        }
        return Posterior(
            mean: part(0..<count) { $0 },
            // diffusers' `DiagonalGaussianDistribution` has these bounds.
            logVariance: part(count..<2 * count) { min(max($0, -30), 20) })
    }

    // MARK: - Scales

    /// What the diffusion model works on: (latent - shift) · scaling, element by element.
    public func scaled(_ latent: Tensor) -> Tensor {
        Tensor(latent.floats().map { ($0 - config.shiftFactor) * config.scalingFactor }, shape: latent.shape)
    }

    /// What the decoder reads: latent / scaling + shift, element by element.
    public func unscaled(_ latent: Tensor) -> Tensor {
        Tensor(latent.floats().map { $0 / config.scalingFactor + config.shiftFactor }, shape: latent.shape)
    }

    /// The bytes of a picture of values -1…1, as diffusers' image processor makes them: halves go to the even byte.
    ///
    /// - Parameter picture: of any shape, f32.
    /// - Returns: its elements in order; NaN becomes 0.
    public static func bytes(of picture: Tensor) -> [UInt8] {
        picture.floats().map { value in
            let unit = value * 0.5 + 0.5
            // Written so that NaN fails the comparison.
            return unit > 0 ? UInt8((min(unit, 1) * 255).rounded(.toNearestOrEven)) : 0
        }
    }

    /// `[channels, height, width]` to `[height · width, channels]`.
    private static func channelsLast(_ latent: Tensor) -> Tensor {
        let channels = latent.shape[0]
        let pixels = latent.width
        let values = latent.floats()
        return Tensor(
            (0..<pixels * channels).map { values[$0 % channels * pixels + $0 / channels] }, shape: [pixels, channels])
    }
}
