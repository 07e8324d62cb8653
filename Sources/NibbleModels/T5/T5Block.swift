internal import NibbleCheckpoints
internal import NibbleTensors

/// One block of T5's encoder (transformers' `T5Block`): attention, then a gated feed-forward layer, each added to the
/// residual stream. No layer has a bias, and attention's scores are not scaled.
struct T5Block: Sendable {
    private let attentionNorm, feedForwardNorm: RMSNorm
    private let query, key, value, attentionOutput: Linear
    private let gate, up, down: Linear
    private let config: T5Config
    let mapped: MappedWeights

    init(_ config: T5Config, _ weights: WeightReader) throws(CheckpointError) {
        self.config = config
        let hidden = config.hidden
        func linear(_ weights: WeightReader, _ input: Int, _ output: Int) throws(CheckpointError) -> Linear {
            try Linear(weights, input: input, output: output, bias: false)
        }
        let attention = weights["layer", 0]["SelfAttention"]
        attentionNorm = try RMSNorm(weights["layer", 0]["layer_norm"], width: hidden, epsilon: config.epsilon)
        query = try linear(attention["q"], hidden, config.attentionWidth)
        key = try linear(attention["k"], hidden, config.attentionWidth)
        value = try linear(attention["v"], hidden, config.attentionWidth)
        attentionOutput = try linear(attention["o"], config.attentionWidth, hidden)
        let feedForward = weights["layer", 1]["DenseReluDense"]
        feedForwardNorm = try RMSNorm(weights["layer", 1]["layer_norm"], width: hidden, epsilon: config.epsilon)
        gate = try linear(feedForward["wi_0"], hidden, config.feedForward)
        up = try linear(feedForward["wi_1"], hidden, config.feedForward)
        down = try linear(feedForward["wo"], config.feedForward, hidden)
        mapped = weights.mappedWeights
    }

    /// Updates the residual stream `[tokens, hidden]` f32.
    func callAsFunction(_ stream: Tensor, bias: RelativeBias, on compute: Compute) {
        attend(stream, bias: bias, on: compute)
        feedForward(stream, on: compute)
    }

    private func attend(_ stream: Tensor, bias: RelativeBias, on compute: Compute) {
        let workspace = compute.workspace
        let operand = compute.precision.activation
        let heads: Shape = [stream.rows, config.attentionWidth]
        workspace.scope {
            let x = workspace.tensor(stream.shape, operand)
            attentionNorm(stream, into: x, on: compute)
            let q = workspace.tensor(heads, operand)
            let k = workspace.tensor(heads, operand)
            let v = workspace.tensor(heads, operand)
            query(x, into: q, on: compute)
            key(x, into: k, on: compute)
            value(x, into: v, on: compute)
            let attended = workspace.tensor(heads, operand)
            compute.attention(q, k, v, heads: config.heads, scale: 1, bias: bias, into: attended)
            add(attentionOutput, attended, to: stream, on: compute)
        }
    }

    private func feedForward(_ stream: Tensor, on compute: Compute) {
        let workspace = compute.workspace
        let operand = compute.precision.activation
        workspace.scope {
            let x = workspace.tensor(stream.shape, operand)
            feedForwardNorm(stream, into: x, on: compute)
            let inner = workspace.tensor([stream.rows, config.feedForward], operand)
            let linear = workspace.tensor(inner.shape, operand)
            gate(x, into: inner, activation: config.activation, on: compute)
            up(x, into: linear, on: compute)
            compute.multiply(inner, by: linear)
            add(down, inner, to: stream, on: compute)
        }
    }

    /// stream += layer(x). The sum stays in 32 bits: T5's stream grows to thousands, where bfloat16 has steps of 8
    /// and more.
    private func add(_ layer: Linear, _ x: Tensor, to stream: Tensor, on compute: Compute) {
        let branch = compute.workspace.tensor(stream.shape, .float32)
        layer(x, into: branch, on: compute)
        compute.add(branch, to: stream)
    }
}
