internal import NibbleCheckpoints
internal import NibbleTensors

/// A block with separate weights for text and image, joined in attention (diffusers' `FluxTransformerBlock`).
struct FluxDoubleBlock: Sendable {
    /// The weights of one of the two streams.
    private struct Stream: Sendable {
        let modulation: Modulation
        let qkv: QKVProjection
        let attentionOutput: any LinearLayer
        let mlpUp, mlpDown: any LinearLayer
    }

    private let image, text: Stream
    private let config: FluxConfig
    let mapped: MappedWeights

    init(_ config: FluxConfig, _ layers: FluxLayers) throws(CheckpointError) {
        self.config = config
        let (hidden, mlp) = (config.hidden, config.mlp)
        image = Stream(
            modulation: try Self.modulation(layers, "norm1", hidden),
            qkv: try QKVProjection(
                layers, config, names: ["attn.to_q", "attn.to_k", "attn.to_v"], or: "qkv_proj",
                norms: ("norm_q", "norm_k")),
            attentionOutput: try layers.linear("attn.to_out.0", or: "out_proj", input: hidden, output: hidden),
            mlpUp: try layers.linear("ff.net.0.proj", or: "mlp_fc1", input: hidden, output: mlp),
            mlpDown: try layers.linear("ff.net.2", or: "mlp_fc2", input: mlp, output: hidden))
        text = Stream(
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
        _ layers: FluxLayers, _ name: String, _ hidden: Int
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
        let parts = [
            (text, 0..<textTokens, "txt", "norm1_context", "ff_context"),
            (image, textTokens..<stream.rows, "img", "norm1", "ff"),
        ]
        workspace.scope {
            let modulations = parts.map { $0.0.modulation(conditioning, on: compute) }
            let attended = workspace.tensor(stream.shape, compute.precision.activation)
            workspace.scope {
                let qkv = workspace.tensor([stream.rows, 3 * config.hidden], compute.precision.activation)
                for ((weights, rows, _, norm, _), modulation) in zip(parts, modulations) {
                    workspace.scope {
                        let x = compute.modulatedNorm(stream.rows(rows), scale: modulation[1], shift: modulation[0])
                        compute.observe("\(name).\(norm).x", x)
                        weights.qkv(x, into: qkv.rows(rows), rotary: rotary.rows(rows), on: compute)
                    }
                }
                compute.selfAttention(qkv, heads: config.heads, into: attended, name: name)
            }
            for ((weights, rows, part, _, feedForward), modulation) in zip(parts, modulations) {
                let stream = stream.rows(rows)
                workspace.scope {
                    let branch = workspace.tensor(stream.shape, compute.precision.activation)
                    weights.attentionOutput(attended.rows(rows), into: branch, on: compute)
                    compute.observe("\(name).attn.\(part)", branch)
                    compute.add(branch, to: stream, gate: modulation[2])
                    let x = compute.modulatedNorm(stream, scale: modulation[4], shift: modulation[3])
                    let inner = workspace.tensor([rows.count, config.mlp], compute.precision.activation)
                    weights.mlpUp(x, into: inner, activation: .geluTanh, on: compute)
                    weights.mlpDown(inner, into: branch, on: compute)
                    compute.observe("\(name).\(feedForward)", branch)
                    compute.add(branch, to: stream, gate: modulation[5])
                }
                compute.observe("\(name).\(part)", stream)
            }
        }
    }
}
