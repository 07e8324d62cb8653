public import NibbleTensors

/// What happens while pictures are made.
public enum FluxEvent: Sendable {
    /// A part of the work begins.
    case stage(Stage)
    /// Some of a picture's blocks or steps are done.
    case progress(Progress)
    /// A step is done: the packed latents after it, `[imageTokens, channels]` f32, for a preview.
    case step(Int, latents: Tensor)
    /// All steps of a picture are done and its decoding begins: what it is decoded from.
    case denoised(DenoisedLatents)
    /// A picture is done.
    case picture(FluxPicture)

    /// A part of the work.
    public enum Stage: String, Sendable {
        case encodingText = "reading the prompt"
        case denoising
        case decoding = "decoding"
    }

    /// How far the steps of all pictures are.
    public struct Progress: Sendable {
        /// Which picture, from 0, and how many.
        public let picture, pictures: Int
        /// Steps of this picture that are done, and how many it has.
        public let step, steps: Int
        /// Blocks of the present step that are done, and how many a step has.
        public let block, blocks: Int
        /// Seconds since the first step began.
        public let seconds: Double

        /// The share of all steps of all pictures that is done.
        public var fraction: Double {
            let present = Double(step) + Double(block) / Double(max(blocks, 1))
            return (Double(picture) + min(present / Double(steps), 1)) / Double(pictures)
        }

        /// Seconds for a step, so far; nil before anything is done.
        public var secondsPerStep: Double? {
            fraction > 0 ? seconds / (fraction * Double(steps * pictures)) : nil
        }

        /// Seconds until the last step of the last picture is done; nil before anything is done.
        public var secondsLeft: Double? { fraction > 0 ? seconds * (1 - fraction) / fraction : nil }
    }
}

/// The latents of a picture after the last step, and what they were made from.
public struct DenoisedLatents: Sendable {
    /// `[latentChannels, height / 8, width / 8]` f32, as the transformer knows them.
    public let latents: Tensor
    /// How they were made.
    public let record: GenerationRecord

    /// Latents that were kept.
    public init(latents: Tensor, record: GenerationRecord) {
        self.latents = latents
        self.record = record
    }
}
