internal import NibbleCheckpoints
internal import NibbleTensors

/// One layer of CLIP's text model (transformers' `CLIPEncoderLayer`): causal attention, then an MLP, each on the
/// normalized residual stream and added to it.
struct CLIPTextLayer: Sendable {
    private let attentionNorm, mlpNorm: LayerNorm
    private let query, key, value, attentionOutput: Linear
    private let mlpUp, mlpDown: Linear
    private let config: CLIPTextConfig
    let mapped: MappedWeights

    init(_ config: CLIPTextConfig, _ weights: WeightReader) throws(CheckpointError) {
        self.config = config
        let hidden = config.hidden
        let attention = weights["self_attn"]
        attentionNorm = try LayerNorm(weights["layer_norm1"], width: hidden, epsilon: config.epsilon)
        query = try Linear(attention["q_proj"], input: hidden, output: hidden)
        key = try Linear(attention["k_proj"], input: hidden, output: hidden)
        value = try Linear(attention["v_proj"], input: hidden, output: hidden)
        attentionOutput = try Linear(attention["out_proj"], input: hidden, output: hidden)
        mlpNorm = try LayerNorm(weights["layer_norm2"], width: hidden, epsilon: config.epsilon)
        mlpUp = try Linear(weights["mlp"]["fc1"], input: hidden, output: config.mlp)
        mlpDown = try Linear(weights["mlp"]["fc2"], input: config.mlp, output: hidden)
        mapped = weights.mappedWeights
    }

    /// Updates the residual stream `[tokens, hidden]` f32.
    func callAsFunction(_ stream: Tensor, on compute: Compute) {
        let workspace = compute.workspace
        let operand = compute.precision.activation
        workspace.scope {
            let x = workspace.tensor(stream.shape, operand)
            let branch = workspace.tensor(stream.shape, .float32)
            workspace.scope {
                attentionNorm(stream, into: x, on: compute)
                let q = workspace.tensor(stream.shape, operand)
                let k = workspace.tensor(stream.shape, operand)
                let v = workspace.tensor(stream.shape, operand)
                query(x, into: q, on: compute)
                key(x, into: k, on: compute)
                value(x, into: v, on: compute)
                compute.attention(q, k, v, heads: config.heads, causal: true, into: x)
                attentionOutput(x, into: branch, on: compute)
                compute.add(branch, to: stream)
            }
            mlpNorm(stream, into: x, on: compute)
            let inner = workspace.tensor([stream.rows, config.mlp], operand)
            mlpUp(x, into: inner, activation: config.activation, on: compute)
            mlpDown(inner, into: branch, on: compute)
            compute.add(branch, to: stream)
        }
    }
}
