internal import NibbleCheckpoints
internal import NibbleTensors

/// One block of T5's encoder (transformers' `T5Block`): attention, then a gated feed-forward layer, each added to the
/// residual stream. No layer has a bias, and attention's scores are not scaled.
struct T5Block: Sendable {
    private let attentionNorm, feedForwardNorm: RMSNorm
    /// Of queries, keys and values: one layer each, or one for all.
    private let projections: [any LinearLayer]
    private let attentionOutput: any LinearLayer
    private let gated: GatedProjection
    private let down: any LinearLayer
    private let config: T5Config
    let mapped: MappedWeights

    init(_ config: T5Config, _ layers: CheckpointLayers) throws(CheckpointError) {
        self.config = config
        let (hidden, width) = (config.hidden, config.attentionWidth)
        func norm(_ layer: CheckpointLayers) throws(CheckpointError) -> RMSNorm {
            try RMSNorm(layer.weights["layer_norm"], width: hidden, epsilon: config.epsilon)
        }
        let attention = layers["layer", 0]["SelfAttention"]
        attentionNorm = try norm(layers["layer", 0])
        projections = try attention.linears(["q", "k", "v"], or: "qkv", input: hidden, output: width, bias: false)
        attentionOutput = try attention.linear("o", input: width, output: hidden, bias: false)
        let feedForward = layers["layer", 1]["DenseReluDense"]
        feedForwardNorm = try norm(layers["layer", 1])
        gated = try feedForward.gated(
            gate: "wi_0", up: "wi_1", or: "wi", input: hidden, output: config.feedForward,
            activation: config.activation)
        down = try feedForward.linear("wo", input: config.feedForward, output: hidden, bias: false)
        mapped = layers.weights.mappedWeights
    }

    /// Updates the residual stream `[tokens, hidden]` f32, whose rows from `distinctRows` on equal the one before; the
    /// observer sees the layers' inputs below `name`.
    func callAsFunction(
        _ stream: Tensor, distinctRows: Int, bias: RelativeBias, name: String, on compute: Compute
    ) {
        attend(stream, distinctRows: distinctRows, bias: bias, name: name, on: compute)
        feedForward(stream, name: name, on: compute)
    }

    private func attend(
        _ stream: Tensor, distinctRows: Int, bias: RelativeBias, name: String, on compute: Compute
    ) {
        let workspace = compute.workspace
        let operand = compute.precision.activation
        let width = config.attentionWidth
        workspace.scope {
            let x = workspace.tensor(stream.shape, operand)
            attentionNorm(stream, into: x, on: compute)
            compute.observe("\(name).qkv.x", x)
            let qkv = workspace.tensor([stream.rows, 3 * width], operand)
            let distinct = qkv.rows(0..<distinctRows), share = qkv.width / projections.count
            for (index, project) in projections.enumerated() {
                let part = distinct.columns(index * share..<(index + 1) * share)
                project(x.rows(0..<distinctRows), into: part, on: compute)
            }
            for row in distinctRows..<qkv.rows {
                compute.convert(qkv.rows(distinctRows - 1..<distinctRows), into: qkv.rows(row..<row + 1))
            }
            let parts = (0..<3).map { qkv.columns($0 * width..<($0 + 1) * width) }
            let attended = workspace.tensor([stream.rows, width], operand)
            compute.attention(
                parts[0], parts[1], parts[2], heads: config.heads, scale: 1, bias: bias, into: attended)
            compute.observe("\(name).o.x", attended)
            // The sums stay in 32 bits: T5's stream grows to thousands, where bfloat16 has steps of 8 and more.
            attentionOutput.add(attended, to: stream, gate: nil, as: .float32, "\(name).o", on: compute)
        }
    }

    private func feedForward(_ stream: Tensor, name: String, on compute: Compute) {
        let workspace = compute.workspace
        let operand = compute.precision.activation
        workspace.scope {
            let x = workspace.tensor(stream.shape, operand)
            feedForwardNorm(stream, into: x, on: compute)
            compute.observe("\(name).wi.x", x)
            let inner = workspace.tensor([stream.rows, config.feedForward], operand)
            gated(x, into: inner, activation: config.activation, on: compute)
            compute.observe("\(name).wo.x", inner)
            down.add(inner, to: stream, gate: nil, as: .float32, "\(name).wo", on: compute)
        }
    }
}
