public import NibbleCheckpoints
public import NibbleTensors

/// A prediction on its way through the blocks.
public struct FluxPassage: Sendable {
    /// The residual stream, `[textTokens + imageTokens, hidden]` f32, text first; changed by each block.
    public let stream: Tensor
    /// SiLU of the conditioning vector, `[1, hidden]` f32.
    let conditioning: Tensor
    /// Its first rows, which belong to the text.
    public let textTokens: Int
    let rotary: RotaryAngles
}

extension FluxTransformer {
    /// Predicts the flow.
    ///
    /// - Parameters:
    ///   - inputs: what the prediction is made from.
    ///   - prediction: `[imageTokens, outChannels]` f32, written.
    ///   - residency: what becomes of a block's weights after its use.
    ///   - cache: of the picture that this is a step of; nil: every block is run.
    ///   - compute: what to compute with.
    ///   - beforeBlock: called before each block that is run with its number; may throw to stop.
    public func callAsFunction(
        _ inputs: Inputs, into prediction: Tensor, residency: Residency = .keep, cache: FirstBlockCache? = nil,
        on compute: Compute, beforeBlock: (_ block: Int) throws -> Void
    ) rethrows {
        if let cache {
            return try compute.workspace.scope {
                let passage = begin(inputs, on: compute) { compute.workspace.tensor($0, .float32) }
                try run(passage, cache, residency: residency, on: compute, beforeBlock: beforeBlock)
                finish(passage, into: prediction, on: compute)
            }
        }
        try self([(inputs, prediction)], residency: residency, on: compute) { block, _ in try beforeBlock(block) }
    }

    /// Makes several predictions in lockstep, block by block, so that each block's weights are read once for all.
    ///
    /// - Parameters:
    ///   - batch: what each is made from and where it goes, as for one.
    ///   - residency: what becomes of a block's weights after its use.
    ///   - compute: what to compute with.
    ///   - beforeBlock: called with a block's number and that of the prediction before the one is applied to the other;
    ///     may throw to stop.
    public func callAsFunction(
        _ batch: [(inputs: Inputs, prediction: Tensor)], residency: Residency = .keep, on compute: Compute,
        beforeBlock: (_ block: Int, _ prediction: Int) throws -> Void
    ) rethrows {
        let workspace = compute.workspace
        try workspace.scope {
            let passages = batch.map { begin($0.inputs, on: compute) { workspace.tensor($0, .float32) } }
            for block in 0..<blockCount {
                if residency == .stream, block + 1 < blockCount { weights(of: block + 1).fetch() }
                for (index, passage) in passages.enumerated() {
                    try beforeBlock(block, index)
                    apply(block, to: passage, on: compute)
                }
                if residency == .stream { weights(of: block).release() }
            }
            for ((_, prediction), passage) in zip(batch, passages) { finish(passage, into: prediction, on: compute) }
        }
    }
}

// MARK: - Block by block

extension FluxTransformer {
    /// Embeds what a prediction is made from.
    ///
    /// - Parameters:
    ///   - inputs: what the prediction is made from.
    ///   - compute: what to compute with.
    ///   - memory: gives a tensor of f32 that lives as long as the passage.
    /// - Returns: the residual stream before the first block.
    public func begin(_ inputs: Inputs, on compute: Compute, memory: (Shape) -> Tensor) -> FluxPassage {
        precondition(inputs.latents.width == config.inChannels && inputs.text.width == config.jointAttentionDim)
        precondition(inputs.pooled.shape == [1, config.pooledProjectionDim])
        let workspace = compute.workspace
        let textTokens = inputs.text.rows
        let stream = memory([textTokens + inputs.latents.rows, config.hidden])
        for (layer, x, rows, name) in [
            (textEmbedder, inputs.text, 0..<textTokens, "context_embedder"),
            (imageEmbedder, inputs.latents, textTokens..<stream.rows, "x_embedder"),
        ] {
            workspace.scope {
                let operand = workspace.tensor(x.shape, compute.precision.activation)
                compute.convert(x, into: operand)
                layer(operand, into: stream.rows(rows), on: compute)
            }
            compute.observe(name, stream.rows(rows))
        }
        let conditioning = memory([1, config.hidden])
        conditioningEmbedding(
            timestep: inputs.timestep, guidance: inputs.guidance, pooled: inputs.pooled, into: conditioning,
            on: compute)
        compute.observe("temb", conditioning)
        compute.silu(conditioning, into: conditioning)
        return FluxPassage(
            stream: stream, conditioning: conditioning, textTokens: textTokens, rotary: inputs.rotary)
    }

    /// Applies a block; the observer sees its activations under the block's `name(of:)`.
    public func apply(_ block: Int, to passage: FluxPassage, on compute: Compute) {
        if block < doubleBlocks.count {
            compute.measured("double block", block, kind: .stage) {
                doubleBlocks[block](
                    passage.stream, textTokens: passage.textTokens, conditioning: passage.conditioning,
                    rotary: passage.rotary, name: name(of: block), on: compute)
            }
        } else {
            let single = block - doubleBlocks.count
            compute.measured("single block", single, kind: .stage) {
                singleBlocks[single](
                    passage.stream, textTokens: passage.textTokens, conditioning: passage.conditioning,
                    rotary: passage.rotary, name: name(of: block), on: compute)
            }
        }
    }

    /// Makes the prediction of the residual stream after the last block.
    ///
    /// - Parameters:
    ///   - passage: after all blocks.
    ///   - prediction: `[imageTokens, outChannels]` f32, written.
    ///   - compute: what to compute with.
    public func finish(_ passage: FluxPassage, into prediction: Tensor, on compute: Compute) {
        let image = passage.stream.rows(passage.textTokens..<passage.stream.rows)
        precondition(prediction.shape == [image.rows, config.outChannels])
        compute.workspace.scope {
            let chunks = outputModulation(passage.conditioning, on: compute)
            let x = compute.modulatedNorm(image, scale: chunks[0], shift: chunks[1])
            compute.observe("norm_out", x)
            output(x, into: prediction, on: compute)
        }
    }

    /// What the observer knows a block by: `double.0`, … and then `single.0`, ….
    public func name(of block: Int) -> String {
        block < doubleBlocks.count ? "double.\(block)" : "single.\(block - doubleBlocks.count)"
    }

    /// A block's weights, to be fetched ahead of its use and released after it.
    public func weights(of block: Int) -> MappedWeights {
        block < doubleBlocks.count ? doubleBlocks[block].mapped : singleBlocks[block - doubleBlocks.count].mapped
    }
}
