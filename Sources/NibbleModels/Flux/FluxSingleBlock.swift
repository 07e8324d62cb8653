internal import NibbleCheckpoints
internal import NibbleTensors

/// A block on the joined sequence, attention and MLP in parallel (diffusers' `FluxSingleTransformerBlock`).
struct FluxSingleBlock: Sendable {
    private let modulation: Modulation
    private let qkv: QKVProjection
    private let mlpUp: any LinearLayer
    /// Layers and the columns of the joined attention and MLP that each reads; their outputs are added.
    private let outputs: [(layer: any LinearLayer, columns: Range<Int>)]
    private let config: FluxConfig
    let mapped: MappedWeights

    init(_ config: FluxConfig, _ layers: CheckpointLayers) throws(CheckpointError) {
        self.config = config
        let (hidden, mlp) = (config.hidden, config.mlp)
        modulation = Modulation(
            try layers.modulation("norm", input: hidden, output: 3 * hidden), hidden: hidden, chunks: 3, scales: [1])
        qkv = try QKVProjection(
            layers, config, names: ["attn.to_q", "attn.to_k", "attn.to_v"], or: "qkv_proj",
            norms: ("norm_q", "norm_k"))
        mlpUp = try layers.linear("proj_mlp", or: "mlp_fc1", input: hidden, output: mlp)
        outputs = try layers.summed(
            "proj_out", or: ["out_proj", "mlp_fc2"], inputs: [hidden, mlp], output: hidden)
        mapped = layers.weights.mappedWeights
    }

    /// Updates the joint residual stream `[tokens, hidden]` f32; parameters as in `FluxDoubleBlock`.
    func callAsFunction(
        _ stream: Tensor, textTokens: Int, conditioning: Tensor, rotary: RotaryAngles, name: String,
        on compute: Compute
    ) {
        let workspace = compute.workspace
        let hidden = config.hidden
        workspace.scope {
            let chunks = modulation(conditioning, on: compute)
            // Attention and MLP write side by side what the output projection reads as one row.
            let joined = workspace.tensor([stream.rows, hidden + config.mlp], compute.precision.activation)
            let attended = joined.columns(0..<hidden)
            let inner = joined.columns(hidden..<hidden + config.mlp)
            workspace.scope {
                let x = compute.modulatedNorm(stream, scale: chunks[1], shift: chunks[0])
                compute.observe("\(name).norm.x", x)
                let qkv = workspace.tensor([stream.rows, 3 * hidden], compute.precision.activation)
                self.qkv(x, into: qkv, rotary: rotary, on: compute)
                compute.selfAttention(
                    qkv, of: [self.qkv], textTokens: textTokens, rotary: rotary, heads: config.heads, into: attended,
                    name: name)
                compute.observe("\(name).attn", attended)
                mlpUp(x, into: inner, activation: .geluTanh, on: compute)
                compute.observe("\(name).mlp_fc2.x", inner)
            }
            for (layer, columns) in outputs {
                layer.add(
                    joined.columns(columns), to: stream, gate: chunks[2], as: joined.dtype, "\(name).proj_out",
                    on: compute)
            }
            compute.observe("\(name).txt", stream.rows(0..<textTokens))
            compute.observe("\(name).img", stream.rows(textTokens..<stream.rows))
        }
    }
}
