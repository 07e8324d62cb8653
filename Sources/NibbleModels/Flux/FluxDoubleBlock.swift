internal import NibbleCheckpoints
internal import NibbleTensors

/// A block with separate weights for text and image, joined in attention (diffusers' `FluxTransformerBlock`).
struct FluxDoubleBlock: Sendable {
    /// The weights of one of the two streams.
    fileprivate struct Stream: Sendable {
        /// What the observer knows its activations by.
        struct Names: Sendable {
            let part, norm, feedForward, attentionOutput, mlp: String
        }

        let names: Names
        let modulation: Modulation
        let qkv: QKVProjection
        let attentionOutput: any LinearLayer
        let mlpUp, mlpDown: any LinearLayer
    }

    private let image, text: Stream
    private let config: FluxConfig
    let mapped: MappedWeights

    init(_ config: FluxConfig, _ layers: CheckpointLayers) throws(CheckpointError) {
        self.config = config
        let (hidden, mlp) = (config.hidden, config.mlp)
        image = Stream(
            names: Stream.Names(
                part: "img", norm: "norm1", feedForward: "ff", attentionOutput: "out_proj", mlp: "mlp"),
            modulation: try Self.modulation(layers, "norm1", hidden),
            qkv: try QKVProjection(
                layers, config, names: ["attn.to_q", "attn.to_k", "attn.to_v"], or: "qkv_proj",
                norms: ("norm_q", "norm_k")),
            attentionOutput: try layers.linear("attn.to_out.0", or: "out_proj", input: hidden, output: hidden),
            mlpUp: try layers.linear("ff.net.0.proj", or: "mlp_fc1", input: hidden, output: mlp),
            mlpDown: try layers.linear("ff.net.2", or: "mlp_fc2", input: mlp, output: hidden))
        text = Stream(
            names: Stream.Names(
                part: "txt", norm: "norm1_context", feedForward: "ff_context", attentionOutput: "out_proj_context",
                mlp: "mlp_context"),
            modulation: try Self.modulation(layers, "norm1_context", hidden),
            qkv: try QKVProjection(
                layers, config, names: ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
                or: "qkv_proj_context", norms: ("norm_added_q", "norm_added_k")),
            attentionOutput: try layers.linear(
                "attn.to_add_out", or: "out_proj_context", input: hidden, output: hidden),
            mlpUp: try layers.linear("ff_context.net.0.proj", or: "mlp_context_fc1", input: hidden, output: mlp),
            mlpDown: try layers.linear("ff_context.net.2", or: "mlp_context_fc2", input: mlp, output: hidden))
        mapped = layers.weights.mappedWeights
    }

    /// Six chunks: shift, scale, gate of attention, then of the MLP.
    private static func modulation(
        _ layers: CheckpointLayers, _ name: String, _ hidden: Int
    ) throws(CheckpointError) -> Modulation {
        Modulation(
            try layers.modulation(name, input: hidden, output: 6 * hidden), hidden: hidden, chunks: 6, scales: [1, 4])
    }

    /// Updates the joint residual stream.
    ///
    /// - Parameters:
    ///   - stream: `[textTokens + imageTokens, hidden]` f32, text first.
    ///   - textTokens: the number of text tokens.
    ///   - conditioning: SiLU of the conditioning vector, `[1, hidden]` f32.
    ///   - rotary: of all tokens.
    ///   - name: for the observer.
    ///   - compute: what to compute with.
    func callAsFunction(
        _ stream: Tensor, textTokens: Int, conditioning: Tensor, rotary: RotaryAngles, name: String,
        on compute: Compute
    ) {
        let workspace = compute.workspace
        let parts = [(text, 0..<textTokens), (image, textTokens..<stream.rows)]
        workspace.scope {
            let modulations = parts.map { $0.0.modulation(conditioning, on: compute) }
            let attended = workspace.tensor(stream.shape, compute.precision.activation)
            workspace.scope {
                let qkv = workspace.tensor([stream.rows, 3 * config.hidden], compute.precision.activation)
                for ((part, rows), modulation) in zip(parts, modulations) {
                    workspace.scope {
                        let x = compute.modulatedNorm(stream.rows(rows), scale: modulation[1], shift: modulation[0])
                        compute.observe("\(name).\(part.names.norm).x", x)
                        part.qkv(x, into: qkv.rows(rows), rotary: rotary.rows(rows), on: compute)
                    }
                }
                compute.selfAttention(
                    qkv, of: parts.map(\.0.qkv), textTokens: textTokens, rotary: rotary, heads: config.heads,
                    into: attended, name: name)
            }
            for ((part, rows), modulation) in zip(parts, modulations) {
                part.update(
                    stream.rows(rows), attended: attended.rows(rows), mlp: config.mlp, modulation, name: name,
                    on: compute)
            }
        }
    }
}

extension FluxDoubleBlock.Stream {
    /// Adds what this stream makes of attention, and then its MLP, to its rows of the residual stream.
    fileprivate func update(
        _ stream: Tensor, attended: Tensor, mlp: Int, _ modulation: [Tensor], name: String, on compute: Compute
    ) {
        let workspace = compute.workspace
        workspace.scope {
            let type = compute.precision.activation
            compute.observe("\(name).\(names.attentionOutput).x", attended)
            attentionOutput.add(
                attended, to: stream, gate: modulation[2], as: type, "\(name).attn.\(names.part)", on: compute)
            let x = compute.modulatedNorm(stream, scale: modulation[4], shift: modulation[3])
            let inner = workspace.tensor([stream.rows, mlp], type)
            compute.observe("\(name).\(names.mlp)_fc1.x", x)
            mlpUp(x, into: inner, activation: .geluTanh, on: compute)
            compute.observe("\(name).\(names.mlp)_fc2.x", inner)
            mlpDown.add(
                inner, to: stream, gate: modulation[5], as: type, "\(name).\(names.feedForward)", on: compute)
        }
        compute.observe("\(name).\(names.part)", stream)
    }
}
