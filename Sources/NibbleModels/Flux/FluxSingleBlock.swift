internal import NibbleCheckpoints
internal import NibbleTensors

/// A block on the joined sequence, attention and MLP in parallel (diffusers' `FluxSingleTransformerBlock`).
struct FluxSingleBlock: Sendable {
    private let modulation: Modulation
    private let qkv: QKVProjection
    private let mlpUp, output: Linear
    private let config: FluxConfig
    let mapped: MappedWeights

    init(_ config: FluxConfig, _ weights: WeightReader) throws(CheckpointError) {
        self.config = config
        let hidden = config.hidden
        modulation = try Modulation(weights["norm"], hidden: hidden, chunks: 3, scales: [1])
        qkv = try QKVProjection(
            weights["attn"], hidden: hidden, headDim: config.headDim, names: ("to_q", "to_k", "to_v"),
            norms: ("norm_q", "norm_k"))
        mlpUp = try Linear(weights["proj_mlp"], input: hidden, output: config.mlp)
        output = try Linear(weights["proj_out"], input: hidden + config.mlp, output: hidden)
        mapped = weights.mappedWeights
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
                let q = workspace.tensor(stream.shape, compute.precision.activation)
                let k = workspace.tensor(stream.shape, compute.precision.activation)
                let v = workspace.tensor(stream.shape, compute.precision.activation)
                qkv(x, q: q, k: k, v: v, rotary: rotary, on: compute)
                for (letter, tensor) in [("q", q), ("k", k), ("v", v)] { compute.observe("\(name).\(letter)", tensor) }
                compute.attention(q, k, v, heads: config.heads, into: attended)
                compute.observe("\(name).attn", attended)
                mlpUp(x, into: inner, activation: .geluTanh, on: compute)
            }
            let branch = workspace.tensor(stream.shape, compute.precision.activation)
            output(joined, into: branch, on: compute)
            compute.observe("\(name).proj_out", branch)
            compute.add(branch, to: stream, gate: chunks[2])
            compute.observe("\(name).txt", stream.rows(0..<textTokens))
            compute.observe("\(name).img", stream.rows(textTokens..<stream.rows))
        }
    }
}
