internal import Foundation
internal import NibbleCheckpoints
internal import NibbleModels
public import NibbleTensors
internal import NibbleTokenizers

/// FLUX.1: a prompt in, pictures out (diffusers' `FluxPipeline`).
///
///     let pipeline = try FluxPipeline(model: "Models/flux-emoji")
///     for try await event in pipeline(FluxRequest(prompt: "red apple", seed: 7)) {
///         if case .picture(let picture) = event { try picture.write(to: "apple.png") }
///     }
///
/// Requests are worked one after the other. The same request gives the same bytes on the same instruction set, whatever
/// the number of threads.
public actor FluxPipeline {
    /// How a pipeline works.
    public struct Options: Sendable {
        /// The numbers that the networks compute in.
        public var precision = Precision.bf16
        /// The number of threads; nil: one for each core.
        public var threads: Int?
        /// Bytes of memory to stay below, mapped weights included; nil: what the machine has.
        public var memoryLimit: Int?
        /// Another transformer than the folder's: a folder, or a single file under diffusers' or BFL's names, or a 4-bit
        /// one of any form.
        public var transformer: String?
        /// Another T5 than the folder's: in 4 bits, or a folder or a single file under transformers' names.
        public var textEncoder2: String?
        /// What the inputs of a 4-bit transformer's layers are quantized to.
        public var activations = ActivationBits.int4
        /// What the products of those layers are summed in. `.nunchaku` is for comparisons with that engine: it is slow,
        /// and takes `int4` activations.
        public var accumulation = Accumulation.f32
        /// What the transformer's attention multiplies beside `Precision.bf16`; nil: bytes for a 4-bit transformer whose
        /// sums are in f32, where the instruction set has them, else bf16.
        public var attention: AttentionPrecision?

        /// The defaults.
        public init() {}
    }

    /// The version that pictures are signed with.
    public static let version = "0.1.0"

    /// The model's folder.
    public nonisolated let model: String
    /// How the pipeline works.
    public nonisolated let options: Options

    let folder: ModelFolder
    let compute: Compute
    let memory: MemoryPolicy
    let clipTokenizer: CLIPTokenizer
    let t5Tokenizer: T5Tokenizer
    let transformer: FluxTransformer
    let autoencoderConfig: AutoencoderConfig
    let scheduler: FlowMatchEulerDiscreteScheduler
    let fingerprint: String

    /// Opens a model: reads configurations and tokenizers, maps the transformer's weights.
    ///
    /// - Parameters:
    ///   - model: a diffusers folder.
    ///   - options: how to work.
    /// - Throws: `CheckpointError`, `TokenizerError`, `SchedulerError`, `PipelineError`.
    public init(model: String, options: Options = Options()) throws {
        guard options.accumulation == .f32 || options.activations == .int4 else {
            throw PipelineError.invalidRequest(
                parameter: "accumulation", found: "\(options.accumulation) with \(options.activations) activations",
                expected: "f32, or int4 activations: Nunchaku's kernels take no others")
        }
        guard options.attention != .int8 || (options.precision == .bf16 && Compute.hasInt8Attention) else {
            throw PipelineError.invalidRequest(
                parameter: "attention", found: "int8 in \(options.precision) on \(InstructionSet.current)",
                expected: "bf16, or int8 in precision bf16 on a processor with VNNI or Arm's dot products")
        }
        self.model = model
        self.options = options
        let folder = try ModelFolder(model)
        self.folder = folder
        // Reading their vocabularies takes longer than mapping all weights.
        let tokenizers = Meanwhile {
            (try CLIPTokenizer(folder: folder.url(.tokenizer)), try T5Tokenizer(folder: folder.url(.tokenizer2)))
        }
        let pool = ThreadPool(threadCount: options.threads)
        scheduler = try FlowMatchEulerDiscreteScheduler(
            folder.config(.scheduler, as: FlowMatchEulerDiscreteScheduler.Configuration.self))
        autoencoderConfig = try folder.config(.vae, as: AutoencoderConfig.self)
        transformer = try Self.openTransformer(options, in: folder, on: pool)
        compute = Self.compute(options, for: transformer, on: pool)
        memory = MemoryPolicy(limit: options.memoryLimit, resident: transformer.weights.ownedByteCount)
        (clipTokenizer, t5Tokenizer) = try tokenizers.value
        let config = transformer.config
        guard config.inChannels == 4 * autoencoderConfig.latentChannels, config.outChannels == config.inChannels else {
            throw PipelineError.inconsistentModel(
                path: transformer.weights.location,
                reason: "the transformer takes \(config.inChannels) and gives \(config.outChannels) channels, but the "
                    + "autoencoder has \(autoencoderConfig.latentChannels): FLUX.1 packs four latents into one token")
        }
        let own = transformer.weights.fingerprint
        // Opened now, so that nobody waits for the error; the folder's own fits, or its first prompt tells.
        fingerprint =
            options.textEncoder2 == nil
            ? own
            : try own + "+" + Self.openTextEncoder2(options, in: folder, on: compute.pool).weights.fingerprint
    }

    /// A pipeline of the same model whose transformer is another one of the same configuration.
    ///
    /// - Parameters:
    ///   - other: the model; the parts that are open stay so only once.
    ///   - transformer: what `openTransformer` gave.
    ///   - options: how to work; where `transformer` comes from, for the pictures' records.
    init(_ other: FluxPipeline, transformer: FluxTransformer, options: Options) {
        model = other.model
        self.options = options
        folder = other.folder
        compute = Self.compute(options, for: transformer, on: ThreadPool(threadCount: options.threads))
        memory = MemoryPolicy(limit: options.memoryLimit)
        clipTokenizer = other.clipTokenizer
        t5Tokenizer = other.t5Tokenizer
        scheduler = other.scheduler
        autoencoderConfig = other.autoencoderConfig
        self.transformer = transformer
        fingerprint = transformer.weights.fingerprint
    }

    private static func compute(
        _ options: Options, for transformer: FluxTransformer, on pool: ThreadPool
    ) -> Compute {
        Compute(
            precision: options.precision, activationBits: options.activations, accumulation: options.accumulation,
            attentionPrecision: attention(options, of: transformer), pool: pool)
    }

    /// What the attention of a transformer multiplies.
    static func attention(_ options: Options, of transformer: FluxTransformer) -> AttentionPrecision {
        options.attention
            ?? .automatic(
                isQuantized: transformer.isQuantized && options.accumulation == .f32, precision: options.precision)
    }

    /// The folder's transformer, or the one that takes its place.
    static func openTransformer(
        _ options: Options, in folder: ModelFolder, on pool: ThreadPool
    ) throws -> FluxTransformer {
        let path = options.transformer ?? folder.folder(.transformer)
        if Checkpoint.int4Form(of: path) != nil {
            let checkpoint = try Checkpoint.openInt4(path)
            try checkpoint.requireTransformer()
            if !checkpoint.isMapped {
                // Before minutes are spent on bringing into order what cannot stay.
                try MemoryPolicy(limit: options.memoryLimit, resident: checkpoint.packedByteCount)
                    .check(0, of: "opening the transformer")
            }
            return try FluxTransformer(checkpoint.config(as: FluxConfig.self), quantized: checkpoint, on: pool)
        }
        let plain = try PlainTransformer(of: folder, replacement: options.transformer)
        return try FluxTransformer(plain.config, weights: WeightReader(plain.source))
    }

    /// Makes pictures.
    ///
    /// - Parameter request: what is wanted.
    /// - Returns: what happens, as it happens. Ending the loop, or cancelling the task that it runs in, stops the work
    ///   before the next block.
    public nonisolated func callAsFunction(_ request: FluxRequest) -> AsyncThrowingStream<FluxEvent, any Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                do {
                    try await run(request) { continuation.yield($0) }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    /// Makes pictures and returns them all at the end.
    ///
    /// - Parameter request: what is wanted.
    /// - Returns: the pictures, in the order of their seeds.
    /// - Throws: what is wrong with the request or the model, or `CancellationError`.
    public func pictures(_ request: FluxRequest) throws -> [FluxPicture] {
        var pictures: [FluxPicture] = []
        try run(request) { event in
            if case .picture(let picture) = event { pictures.append(picture) }
        }
        return pictures
    }

    /// Decodes latents that were kept from a run whose decoding did not come to its end.
    ///
    /// - Parameter denoised: what `FluxEvent.denoised` brought.
    /// - Returns: the picture.
    /// - Throws: `PipelineError` for latents of another model, or what is wrong with the autoencoder.
    public func decode(_ denoised: DenoisedLatents) throws -> FluxPicture {
        let scale = autoencoderConfig.scale
        let expected: Shape = [
            autoencoderConfig.latentChannels, denoised.record.height / scale, denoised.record.width / scale,
        ]
        guard denoised.latents.shape == expected, expected.elementCount > 0 else {
            throw PipelineError.invalidRequest(
                parameter: "latents", found: "\(denoised.latents.shape)",
                expected: "\(expected) for \(denoised.record.width) × \(denoised.record.height) pixels")
        }
        return FluxPicture(bitmap: try decodePicture(denoised.latents), record: denoised.record)
    }

    /// Makes pictures.
    ///
    /// - Parameters:
    ///   - request: what is wanted.
    ///   - text: what the text encoders made of the prompt before; nil: they run.
    ///   - emit: gets what happens.
    /// - Throws: what is wrong with the request or the model, or `CancellationError`.
    func run(_ request: FluxRequest, text: TextStates? = nil, emit: (FluxEvent) -> Void) throws {
        let resolved = try ResolvedRequest(request, defaults)
        // 1. Prompt to states. The text encoders are gone when this returns.
        if text == nil { emit(.stage(.encodingText)) }
        let text = try text ?? encode(resolved)
        // 2. Places of the tokens and the noise schedule are the same for all pictures.
        let plan = try DenoisingPlan(resolved, self)
        // Nobody should wait for latents that cannot become a picture.
        _ = try openDecoder(latentHeight: plan.latentHeight, latentWidth: plan.latentWidth)
        let clock = ContinuousClock()
        emit(.stage(.denoising))
        var denoising = Duration.zero
        for picture in 0..<resolved.count {
            // 3. Noise to latents.
            let started = clock.now
            let packed = try denoise(plan, text: text, picture: picture) { event in
                emit(event(denoising + started.duration(to: clock.now)))
            }
            denoising += started.duration(to: clock.now)
            // 4. Latents to a picture.
            let latents = LatentPacking.unpack(packed, height: plan.latentHeight, width: plan.latentWidth)
            let denoised = DenoisedLatents(latents: latents, record: record(resolved, picture: picture))
            emit(.denoised(denoised))
            emit(.stage(.decoding))
            emit(.picture(FluxPicture(bitmap: try decodePicture(latents), record: denoised.record)))
        }
    }

    nonisolated var defaults: ResolvedRequest.Defaults {
        ResolvedRequest.Defaults(
            side: autoencoderConfig.sampleSize, latentChannels: autoencoderConfig.latentChannels,
            latentScale: autoencoderConfig.scale, textLength: t5Tokenizer.modelMaxLength,
            hasGuidance: transformer.config.guidanceEmbeds)
    }

    private func record(_ resolved: ResolvedRequest, picture: Int) -> GenerationRecord {
        GenerationRecord(
            prompt: resolved.prompt, prompt2: resolved.request.prompt2, seed: resolved.request.seed &+ UInt64(picture),
            steps: resolved.steps, guidance: transformer.config.guidanceEmbeds ? resolved.guidance : nil,
            width: resolved.width, height: resolved.height, maxSequenceLength: resolved.maxSequenceLength,
            precision: options.precision, model: model, transformer: options.transformer,
            textEncoder2: options.textEncoder2,
            activations: transformer.isQuantized ? options.activations : nil,
            accumulation: transformer.isQuantized ? options.accumulation : .f32,
            attention: compute.attentionPrecision,
            firstBlockCache: resolved.request.firstBlockCache?.values, modelFingerprint: fingerprint,
            nibbleVersion: Self.version, instructionSet: InstructionSet.current.description,
            roundsConditioning: resolved.request.roundsConditioning)
    }
}
