internal import NibbleCheckpoints
public import NibbleModels
internal import NibbleTensors

extension FluxPipeline {
    /// How far a recording is.
    public enum RecordingProgress: Sendable {
        /// A prompt is read by the text encoders.
        case encoding(prompt: Int, of: Int)
        /// A part of the steps is done, 0...1.
        case denoising(fraction: Double)
    }

    /// Draws pictures without decoding them, and records what the transformer is given at each step. All pictures go in
    /// lockstep, step by step and block by block, so that the transformer's weights are read once for each step.
    ///
    /// - Parameters:
    ///   - requests: of one size, one number of steps and one text length; each for one picture.
    ///   - progress: called as the work goes on.
    /// - Returns: the inputs at each step, for each request.
    /// - Throws: what is wrong with the requests or the model, or `CancellationError`.
    public func recordInputs(
        of requests: [FluxRequest], progress: @Sendable (RecordingProgress) -> Void
    ) throws -> [[FluxTransformer.Inputs]] {
        var plans: [DenoisingPlan] = []
        var texts: [TextStates] = []
        for (index, request) in requests.enumerated() {
            progress(.encoding(prompt: index, of: requests.count))
            let resolved = try ResolvedRequest(request, defaults)
            plans.append(try DenoisingPlan(resolved, self))
            texts.append(try encode(resolved))
        }
        guard let first = plans.first else { return [] }
        precondition(plans.allSatisfy { $0.isInLockstep(with: first) }, "requests differ in size, steps or text length")
        let latents = plans.map { LatentPacking.pack(firstNoise($0, picture: 0)) }
        let predictions = latents.map { Tensor(zeros: $0.shape, .float32) }
        let activations = transformer.activationBytes(
            tokens: latents[0].rows + texts[0].states.rows, predictions: plans.count)
        try memory.check(activations, of: "denoising")
        let residency = memory.residency(weights: transformer.weights.mappedWeights, activations: activations)
        var recorded: [[FluxTransformer.Inputs]] = plans.map { _ in [] }
        for step in 0..<first.schedule.stepCount {
            for index in plans.indices {
                recorded[index].append(
                    FluxTransformer.Inputs(
                        latents: Tensor(latents[index].floats(), shape: latents[index].shape),
                        text: texts[index].states, pooled: texts[index].pooled,
                        timestep: plans[index].resolved.timestep(first.schedule.timesteps[step]),
                        guidance: plans[index].resolved.scaledGuidance, rotary: first.rotary))
            }
            let batch = plans.indices.map { (inputs: recorded[$0][step], prediction: predictions[$0]) }
            try transformer(batch, residency: residency, on: compute) { block, prediction in
                try Task.checkCancellation()
                let done = Double(block * plans.count + prediction) / Double(transformer.blockCount * plans.count)
                progress(.denoising(fraction: (Double(step) + done) / Double(first.schedule.stepCount)))
            }
            for index in plans.indices {
                if !compute.isFinite(predictions[index]) {
                    try explain(recorded[index][step], prompt: plans[index].resolved.prompt, step: step)
                }
                first.schedule.step(step, prediction: predictions[index], latents: latents[index])
            }
        }
        return recorded
    }

    /// Throws for a prediction that is not finite: names the weight that is not, or makes the prediction again and names
    /// the first activation that is not.
    private func explain(_ inputs: FluxTransformer.Inputs, prompt: String, step: Int) throws {
        try transformer.weights.checkFinite()
        var first: String?
        compute.observer = { [compute] name, activation in
            if first == nil, !compute.isFinite(activation) { first = name }
        }
        defer { compute.observer = nil }
        let prediction = Tensor(zeros: inputs.latents.shape, .float32)
        try transformer(inputs, into: prediction, on: compute) { _ in try Task.checkCancellation() }
        throw PipelineError.notFinite(
            stage: "the transformer in step \(step + 1) of '\(prompt)', first in '\(first ?? "its result")',")
    }
}

extension DenoisingPlan {
    /// Whether two pictures have the same tokens at the same noise.
    fileprivate func isInLockstep(with other: DenoisingPlan) -> Bool {
        latentHeight == other.latentHeight && latentWidth == other.latentWidth
            && schedule.stepCount == other.schedule.stepCount
            && resolved.maxSequenceLength == other.resolved.maxSequenceLength
    }
}
