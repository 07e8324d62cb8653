internal import NibbleCheckpoints
internal import NibbleTensors

/// A block with separate weights for text and image, joined in attention (diffusers' `FluxTransformerBlock`).
struct FluxDoubleBlock: Sendable {
    /// The weights of one of the two streams.
    private struct Stream: Sendable {
        let modulation: Modulation
        let qkv: QKVProjection
        let attentionOutput: Linear
        let mlpUp, mlpDown: Linear
    }

    private let image, text: Stream
    private let config: FluxConfig
    let mapped: MappedWeights

    init(_ config: FluxConfig, _ weights: WeightReader) throws(CheckpointError) {
        self.config = config
        let attention = weights["attn"]
        let hidden = config.hidden
        image = Stream(
            modulation: try Self.modulation(weights["norm1"], hidden),
            qkv: try QKVProjection(
                attention, hidden: hidden, headDim: config.headDim, names: ("to_q", "to_k", "to_v"),
                norms: ("norm_q", "norm_k")),
            attentionOutput: try Linear(attention["to_out", 0], input: hidden, output: hidden),
            mlpUp: try Linear(weights["ff"]["net", 0]["proj"], input: hidden, output: config.mlp),
            mlpDown: try Linear(weights["ff"]["net", 2], input: config.mlp, output: hidden))
        text = Stream(
            modulation: try Self.modulation(weights["norm1_context"], hidden),
            qkv: try QKVProjection(
                attention, hidden: hidden, headDim: config.headDim,
                names: ("add_q_proj", "add_k_proj", "add_v_proj"), norms: ("norm_added_q", "norm_added_k")),
            attentionOutput: try Linear(attention["to_add_out"], input: hidden, output: hidden),
            mlpUp: try Linear(weights["ff_context"]["net", 0]["proj"], input: hidden, output: config.mlp),
            mlpDown: try Linear(weights["ff_context"]["net", 2], input: config.mlp, output: hidden))
        mapped = weights.mappedWeights
    }

    /// Six chunks: shift, scale, gate of attention, then of the MLP.
    private static func modulation(_ weights: WeightReader, _ hidden: Int) throws(CheckpointError) -> Modulation {
        try Modulation(weights, hidden: hidden, chunks: 6, scales: [1, 4])
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
                let q = workspace.tensor(stream.shape, compute.precision.activation)
                let k = workspace.tensor(stream.shape, compute.precision.activation)
                let v = workspace.tensor(stream.shape, compute.precision.activation)
                for ((weights, rows, _, norm, _), modulation) in zip(parts, modulations) {
                    workspace.scope {
                        let x = compute.modulatedNorm(stream.rows(rows), scale: modulation[1], shift: modulation[0])
                        compute.observe("\(name).\(norm).x", x)
                        weights.qkv(
                            x, q: q.rows(rows), k: k.rows(rows), v: v.rows(rows), rotary: rotary.rows(rows), on: compute
                        )
                    }
                }
                for (letter, tensor) in [("q", q), ("k", k), ("v", v)] { compute.observe("\(name).\(letter)", tensor) }
                compute.attention(q, k, v, heads: config.heads, into: attended)
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
