public import NibbleModels
public import NibbleTensors

/// What picture is wanted. What is nil comes from the model.
public struct FluxRequest: Sendable {
    /// FLUX was trained with at most so many T5 tokens.
    public static let longestText = 512

    /// What the picture shows. CLIP sees its beginning, T5 all that fits into `maxSequenceLength`.
    public var prompt: String
    /// Another prompt for T5; nil: `prompt`.
    public var prompt2: String?
    /// Euler steps; nil: 28 for models with guidance, 4 for those without, which are distilled for that.
    public var steps: Int?
    /// Distilled guidance; nil: 3.5. Without effect on models without `guidance_embeds`.
    public var guidanceScale: Float?
    /// Pixels, a multiple of 16; nil: what the autoencoder was made for.
    public var width: Int?
    /// Pixels, a multiple of 16; nil: what the autoencoder was made for.
    public var height: Int?
    /// Where the noise comes from: torch's CPU generator seeded with this. The second picture of a request has the next
    /// seed, and so on, so that each can be made again alone.
    public var seed: UInt64
    /// Noise to begin with instead of the seed's, `[latentChannels, height / 8, width / 8]` f32.
    public var latents: Tensor?
    /// The number of pictures.
    public var count: Int
    /// T5 tokens; nil: what `tokenizer_2` was made for, at most 512.
    public var maxSequenceLength: Int?
    /// Rounds timestep, guidance and the first noise to bfloat16 where a bf16 run of diffusers does (guidance 3.5 then
    /// acts as 3.504), to compare with pictures made on a GPU.
    public var roundsConditioning: Bool
    /// Skips blocks in steps whose first block does nearly what it did before: faster, and another picture. Nil: no step
    /// is cut short.
    public var firstBlockCache: FirstBlockCache.Threshold?

    /// See the properties.
    public init(
        prompt: String, prompt2: String? = nil, steps: Int? = nil, guidanceScale: Float? = nil, width: Int? = nil,
        height: Int? = nil, seed: UInt64 = 0, latents: Tensor? = nil, count: Int = 1, maxSequenceLength: Int? = nil,
        roundsConditioning: Bool = false, firstBlockCache: FirstBlockCache.Threshold? = nil
    ) {
        self.prompt = prompt
        self.prompt2 = prompt2
        self.steps = steps
        self.guidanceScale = guidanceScale
        self.width = width
        self.height = height
        self.seed = seed
        self.latents = latents
        self.count = count
        self.maxSequenceLength = maxSequenceLength
        self.roundsConditioning = roundsConditioning
        self.firstBlockCache = firstBlockCache
    }
}

/// A request with the model's defaults filled in and everything checked.
struct ResolvedRequest: Sendable {
    let prompt, prompt2: String
    let steps: Int
    let guidance: Float
    let width, height: Int
    let count: Int
    let maxSequenceLength: Int
    let request: FluxRequest

    /// What the model says where the request says nothing.
    struct Defaults: Sendable {
        /// Pixels of the pictures that the autoencoder was made for.
        let side: Int
        /// Latent channels of the autoencoder.
        let latentChannels: Int
        /// Pixels of a latent, in each direction.
        let latentScale: Int
        /// Tokens that `tokenizer_2` was made for, if it says so.
        let textLength: Int?
        /// Whether the transformer takes guidance.
        let hasGuidance: Bool
    }

    /// The longest side that is taken: 16384 pixels are a million image tokens.
    static let maximumSide = 16_384

    init(_ request: FluxRequest, _ defaults: Defaults) throws(PipelineError) {
        func check<Value: Comparable>(
            _ parameter: String, _ value: Value, _ range: ClosedRange<Value>, _ expected: String,
            also: (Value) -> Bool = { _ in true }
        ) throws(PipelineError) -> Value {
            guard range.contains(value), also(value) else {
                throw .invalidRequest(parameter: parameter, found: "\(value)", expected: expected)
            }
            return value
        }
        self.request = request
        prompt = request.prompt
        prompt2 = request.prompt2 ?? request.prompt
        let multiple = 2 * defaults.latentScale
        let sizes = "a multiple of \(multiple) from \(multiple) to \(Self.maximumSide)"
        let range = multiple...Self.maximumSide
        width = try check("width", request.width ?? defaults.side, range, sizes) { $0 % multiple == 0 }
        height = try check("height", request.height ?? defaults.side, range, sizes) { $0 % multiple == 0 }
        let most = FlowMatchEulerDiscreteScheduler.stepLimit
        steps = try check(
            "steps", request.steps ?? (defaults.hasGuidance ? 28 : 4), 1...most, "a number from 1 to \(most)")
        guidance = try check(
            "guidance", request.guidanceScale ?? 3.5, 0...1000,
            "a number from 0 to 1000; FLUX.1-dev was made for 1.5 to 5")
        count = try check("count", request.count, 1...10_000, "a number from 1 to 10000")
        let longest = FluxRequest.longestText
        maxSequenceLength = try check(
            "max-sequence-length", request.maxSequenceLength ?? min(defaults.textLength ?? longest, longest),
            1...longest, "a number from 1 to \(longest)")
        for threshold in request.firstBlockCache?.values ?? [] {
            _ = try check(
                "first-block-cache", threshold, 0...10, "a number above 0; 0.12 is usual", also: { $0 > 0 })
        }
        if let latents = request.latents {
            let shape: Shape = [
                defaults.latentChannels, height / defaults.latentScale, width / defaults.latentScale,
            ]
            guard latents.shape == shape, latents.dtype == .float32, count == 1 else {
                throw .invalidRequest(
                    parameter: "latents", found: "\(latents.dtype.rawValue) \(latents.shape) for \(count) pictures",
                    expected: "F32 \(shape) for one picture of \(width) × \(height) pixels")
            }
        }
    }

    /// The timestep times 1000, as the transformer takes it: divided and multiplied again as diffusers does.
    func timestep(_ timestep: Float) -> Float {
        guard request.roundsConditioning else { return timestep / 1000 * 1000 }
        return ((timestep.roundedToBFloat16 / 1000).roundedToBFloat16 * 1000).roundedToBFloat16
    }

    /// The guidance times 1000, as the transformer takes it.
    var scaledGuidance: Float {
        request.roundsConditioning ? (guidance.roundedToBFloat16 * 1000).roundedToBFloat16 : guidance * 1000
    }
}

extension FirstBlockCache.Threshold {
    /// One number for all blocks, or one for each of the two stacks.
    public var values: [Float] {
        switch self {
        case .whole(let threshold): [threshold]
        case .stacks(let double, let single): [double, single]
        }
    }

    /// A threshold of one number or two; nil for other counts.
    public init?(values: [Float]) {
        switch values.count {
        case 1: self = .whole(values[0])
        case 2: self = .stacks(double: values[0], single: values[1])
        default: return nil
        }
    }
}
