public import NibbleTensors

/// How much noise is left before and after each step of one picture.
public struct NoiseSchedule: Sendable, Equatable {
    /// The share of noise before each step, from 1 down, and 0 after the last: `stepCount + 1` numbers.
    public let sigmas: [Float]
    /// What the transformer is told of each step, before the division by 1000 that `FluxPipeline` does (and the
    /// transformer undoes): sigma times `num_train_timesteps`.
    public let timesteps: [Float]

    /// The number of steps.
    public var stepCount: Int { timesteps.count }

    /// One Euler step, in 32-bit arithmetic like diffusers': latents + (next sigma - sigma) * prediction.
    ///
    /// - Parameters:
    ///   - index: the step, `0..<stepCount`.
    ///   - prediction: the transformer's output, f32, contiguous.
    ///   - latents: f32, contiguous, of as many elements; changed in place.
    public func step(_ index: Int, prediction: Tensor, latents: Tensor) {
        precondition(prediction.dtype == .float32 && latents.dtype == .float32)
        precondition(prediction.isContiguous && latents.isContiguous)
        precondition(prediction.elementCount == latents.elementCount)
        let difference = sigmas[index + 1] - sigmas[index]
        let source = prediction.address.assumingMemoryBound(to: Float.self)
        let target = latents.mutableAddress.assumingMemoryBound(to: Float.self)
        for element in 0..<latents.elementCount { target[element] += difference * source[element] }
    }
}
