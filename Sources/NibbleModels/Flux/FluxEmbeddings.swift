internal import Foundation
internal import NibbleCheckpoints
internal import NibbleTensors

/// Two linear layers with a SiLU between them, on one row: diffusers' `TimestepEmbedding` and
/// `PixArtAlphaTextProjection`.
struct EmbeddingMLP: Sendable {
    let first, second: Linear

    init(_ weights: WeightReader, input: Int, hidden: Int) throws(CheckpointError) {
        first = try Linear(weights["linear_1"], input: input, output: hidden)
        second = try Linear(weights["linear_2"], input: hidden, output: hidden)
    }

    /// x `[1, input]` f32 -> `[1, hidden]` f32.
    func callAsFunction(_ x: Tensor, into y: Tensor, on compute: Compute) {
        compute.workspace.scope {
            let inner = compute.workspace.tensor(y.shape, .float32)
            first(x, into: inner, on: compute)
            compute.silu(inner, into: inner)
            second(inner, into: y, on: compute)
        }
    }
}

/// The conditioning vector of a step: timestep, guidance and the pooled text, embedded and added (diffusers'
/// `CombinedTimestepGuidanceTextProjEmbeddings`).
struct ConditioningEmbedding: Sendable {
    /// Width of the sinusoids that stand for a number.
    private static let frequencies = 256

    let timestep: EmbeddingMLP
    let guidance: EmbeddingMLP?
    let text: EmbeddingMLP

    init(_ config: FluxConfig, _ weights: WeightReader) throws(CheckpointError) {
        timestep = try EmbeddingMLP(weights["timestep_embedder"], input: Self.frequencies, hidden: config.hidden)
        guidance =
            config.guidanceEmbeds
            ? try EmbeddingMLP(weights["guidance_embedder"], input: Self.frequencies, hidden: config.hidden) : nil
        text = try EmbeddingMLP(weights["text_embedder"], input: config.pooledProjectionDim, hidden: config.hidden)
    }

    /// Writes the embedding `[1, hidden]` f32 of a timestep and a guidance (both times 1000) and pooled text
    /// `[1, pooled]` f32.
    func callAsFunction(
        timestep time: Float, guidance scale: Float, pooled: Tensor, into embedding: Tensor, on compute: Compute
    ) {
        compute.workspace.scope {
            let part = compute.workspace.tensor(embedding.shape, .float32)
            let sinusoids = compute.workspace.tensor([1, Self.frequencies], .float32)
            Self.write(sinusoidsOf: time, into: sinusoids)
            timestep(sinusoids, into: embedding, on: compute)
            if let guidance {
                Self.write(sinusoidsOf: scale, into: sinusoids)
                guidance(sinusoids, into: part, on: compute)
                compute.add(part, to: embedding)
            }
            text(pooled, into: part, on: compute)
            compute.add(part, to: embedding)
        }
    }

    /// cos(value · f), then sin(value · f), for f from 1 down towards 1/10000 (Vaswani et al., arXiv 1706.03762, §3.5;
    /// diffusers' `Timesteps` with `flip_sin_to_cos` and no shift). f32 arithmetic, as there.
    private static func write(sinusoidsOf value: Float, into tensor: Tensor) {
        let half = frequencies / 2
        let sinusoids = tensor.mutableAddress.assumingMemoryBound(to: Float.self)
        for index in 0..<half {
            let angle = value * exp(-Float(log(10_000.0)) * Float(index) / Float(half))
            sinusoids[index] = cos(angle)
            sinusoids[half + index] = sin(angle)
        }
    }
}
