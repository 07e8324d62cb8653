internal import NibbleCheckpoints
internal import NibbleImages
internal import NibbleModels
internal import NibbleTensors
internal import NibbleTokenizers

/// What the text encoders make of a prompt.
struct TextStates: Sendable {
    /// T5's states, `[textTokens, jointAttentionDim]` f32.
    let states: Tensor
    /// CLIP's pooled state, `[1, pooledProjectionDim]` f32.
    let pooled: Tensor
}

/// What is the same for all pictures of a request.
struct DenoisingPlan {
    let resolved: ResolvedRequest
    let schedule: NoiseSchedule
    let rotary: RotaryAngles
    let latentHeight, latentWidth: Int

    init(_ resolved: ResolvedRequest, _ pipeline: isolated FluxPipeline) throws {
        self.resolved = resolved
        latentHeight = resolved.height / pipeline.autoencoderConfig.scale
        latentWidth = resolved.width / pipeline.autoencoderConfig.scale
        schedule = try pipeline.scheduler.schedule(
            steps: resolved.steps, imageTokens: latentHeight / 2 * (latentWidth / 2))
        rotary = FluxRotary.angles(
            places: FluxRotary.places(
                textTokens: resolved.maxSequenceLength, rows: latentHeight / 2, columns: latentWidth / 2),
            axes: pipeline.transformer.config.axesDimsRope)
    }
}

extension FluxPipeline {
    /// Runs the text encoders, one after the other; none of their weights is held afterwards.
    func encode(_ resolved: ResolvedRequest) throws -> TextStates {
        let pooled = try encodeCLIP(resolved.prompt)
        let states = try encodeT5(resolved.prompt2, length: resolved.maxSequenceLength)
        compute.workspace.release()
        let config = transformer.config
        guard states.width == config.jointAttentionDim, pooled.width == config.pooledProjectionDim else {
            throw PipelineError.inconsistentModel(
                path: transformer.weights.location,
                reason: "the transformer takes text of width \(config.jointAttentionDim) and "
                    + "\(config.pooledProjectionDim), but the text encoders give \(states.width) and \(pooled.width)")
        }
        return TextStates(states: states, pooled: pooled)
    }

    private func encodeCLIP(_ prompt: String) throws -> Tensor {
        let config = try folder.config(.textEncoder, as: CLIPTextConfig.self)
        try check(clipTokenizer, .tokenizer, fits: config.vocabularySize, of: .textEncoder)
        let encoder = try CLIPTextModel(config, weights: WeightReader(folder.weights(.textEncoder)))
        let length = min(clipTokenizer.modelMaxLength ?? config.positions, config.positions)
        let states = try encoder(clipTokenizer.encode(prompt, length: length), on: compute) { _ in
            try Task.checkCancellation()
        }
        try check(states.pooled, of: "CLIP", encoder.weights)
        return states.pooled
    }

    /// Takes noise to the latents of one picture.
    ///
    /// - Parameters:
    ///   - plan: what is the same for all pictures.
    ///   - text: the prompt.
    ///   - picture: which of the request's pictures.
    ///   - emit: gets events that want to know the time since the first picture's first step.
    /// - Returns: packed latents, `[imageTokens, channels]` f32.
    /// - Throws: `CancellationError`, or what is wrong with a result that is not finite.
    func denoise(
        _ plan: DenoisingPlan, text: TextStates, picture: Int, emit: ((Duration) -> FluxEvent) -> Void
    ) throws -> Tensor {
        let resolved = plan.resolved
        let latents = LatentPacking.pack(firstNoise(plan, picture: picture))
        let prediction = Tensor(zeros: latents.shape, .float32)
        let tokens = latents.rows + text.states.rows
        let cache = resolved.request.firstBlockCache.map(FirstBlockCache.init)
        let activations = transformer.activationBytes(tokens: tokens, hasCache: cache != nil)
        try memory.check(activations, of: "denoising")
        let residency = memory.residency(weights: transformer.weights.mappedWeights, activations: activations)
        var inputs = FluxTransformer.Inputs(
            latents: latents, text: text.states, pooled: text.pooled, timestep: 0, guidance: resolved.scaledGuidance,
            rotary: plan.rotary)
        for step in 0..<plan.schedule.stepCount {
            inputs.timestep = resolved.timestep(plan.schedule.timesteps[step])
            try transformer(inputs, into: prediction, residency: residency, cache: cache, on: compute) { block in
                try Task.checkCancellation()
                emit { .progress(progress(plan, picture, step: step, block: block, $0)) }
            }
            try check(prediction, of: "the transformer in step \(step + 1)", transformer.weights)
            plan.schedule.step(step, prediction: prediction, latents: latents)
            emit { .progress(progress(plan, picture, step: step + 1, block: 0, $0)) }
            emit { _ in .step(step, latents: Tensor(latents.floats(), shape: latents.shape)) }
        }
        return latents
    }

    private func progress(
        _ plan: DenoisingPlan, _ picture: Int, step: Int, block: Int, _ time: Duration
    ) -> FluxEvent.Progress {
        FluxEvent.Progress(
            picture: picture, pictures: plan.resolved.count, step: step, steps: plan.schedule.stepCount, block: block,
            blocks: transformer.blockCount, seconds: time / .seconds(1))
    }

    /// The noise that a picture begins with, `[latentChannels, height, width]` f32.
    func firstNoise(_ plan: DenoisingPlan, picture: Int) -> Tensor {
        let request = plan.resolved.request
        if let latents = request.latents { return latents }
        let shape: Shape = [autoencoderConfig.latentChannels, plan.latentHeight, plan.latentWidth]
        var generator = TorchGenerator(seed: request.seed &+ UInt64(picture))
        let noise =
            request.roundsConditioning
            ? generator.normalBFloat16(shape.elementCount).map(Float.init) : generator.normal(shape.elementCount)
        return Tensor(noise, shape: shape)
    }

    /// The autoencoder, how much its activations may take, and what it takes with its weights.
    struct DecodingPlan {
        let autoencoder: AutoencoderKL
        let memory: AutoencoderMemory
        let byteCount: Int
    }

    /// Opens the autoencoder; throws where a picture of that size cannot be decoded in the memory that there is.
    func openDecoder(latentHeight: Int, latentWidth: Int) throws -> DecodingPlan {
        let autoencoder = try AutoencoderKL(autoencoderConfig, weights: WeightReader(folder.weights(.vae)))
        // Mapped, packed for oneDNN, and in f32 twice as large as the bf16 of the file.
        let weights = 3 * autoencoder.weights.mappedWeights.byteCount
        let size = AutoencoderMemory.automatic(limit: memory.activations(beside: weights))
        let activations = autoencoder.decodingMemory(
            latentHeight: latentHeight, latentWidth: latentWidth, memory: size, on: compute)
        try memory.check(activations, of: "decoding")
        return DecodingPlan(autoencoder: autoencoder, memory: size, byteCount: weights + activations)
    }

    /// Decodes `[latentChannels, height, width]` f32.
    func decodePicture(_ latents: Tensor) throws -> Bitmap {
        compute.workspace.release()
        defer { compute.workspace.release() }
        let plan = try openDecoder(latentHeight: latents.shape[1], latentWidth: latents.shape[2])
        // Where both do not fit, the transformer's weights go; the next picture's first step reads them again.
        let transformerWeights = transformer.weights.mappedWeights
        if memory.residency(weights: transformerWeights, activations: plan.byteCount) == .stream {
            transformerWeights.release()
        }
        let autoencoder = plan.autoencoder
        let picture = try autoencoder.decode(autoencoder.unscaled(latents), memory: plan.memory, on: compute) {
            try Task.checkCancellation()
        }
        try check(picture, of: "the autoencoder", autoencoder.weights)
        return Bitmap(
            width: picture.shape[1], height: picture.shape[0], pixels: AutoencoderKL.bytes(of: picture))
    }

    /// Throws where a result is not finite: because of a weight that is not, or without such a reason.
    func check(_ result: Tensor, of stage: String, _ weights: WeightReader) throws {
        guard !compute.isFinite(result) else { return }
        try weights.checkFinite()
        throw PipelineError.notFinite(stage: stage)
    }
}
