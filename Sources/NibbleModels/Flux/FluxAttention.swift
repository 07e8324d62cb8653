internal import NibbleCheckpoints
internal import NibbleTensors

/// Queries, keys and values of one stream: projections, and the norms of each head of queries and keys.
struct QKVProjection: Sendable {
    /// The epsilon of FLUX's per-head RMS norm.
    fileprivate static let epsilon: Float = 1e-6

    /// One layer for each of the three, or one for all.
    let projections: [any LinearLayer]
    let queryNorm, keyNorm: Tensor

    /// - Parameters:
    ///   - layers: of the block.
    ///   - config: the sizes.
    ///   - names: diffusers', of the three projections.
    ///   - fusedName: Nunchaku's, of the one that they are there.
    ///   - norms: those of the norms of queries and keys.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    init(
        _ layers: CheckpointLayers, _ config: FluxConfig, names: [String], or fusedName: String, norms: (String, String)
    ) throws(CheckpointError) {
        projections = try layers.linears(names, or: fusedName, input: config.hidden, output: config.hidden)
        queryNorm = try layers.headNorm(norms.0, config.headDim)
        keyNorm = try layers.headNorm(norms.1, config.headDim)
    }

    /// Projects x `[tokens, hidden]` into this stream's rows of `[tokens, 3 · hidden]`: queries, keys, values side by
    /// side, the first two normalized and rotated, unless attention does that as it reads them.
    func callAsFunction(_ x: Tensor, into qkv: Tensor, rotary: RotaryAngles, on compute: Compute) {
        let width = qkv.width / projections.count
        for (index, project) in projections.enumerated() {
            project(x, into: qkv.columns(index * width..<(index + 1) * width), on: compute)
        }
        if compute.attentionPrecision == .int8 { return }
        let (query, key, _) = Self.parts(qkv)
        compute.rmsNormRotary(query, gain: queryNorm, epsilon: Self.epsilon, rotary: rotary)
        compute.rmsNormRotary(key, gain: keyNorm, epsilon: Self.epsilon, rotary: rotary)
    }

    /// The three blocks of columns.
    static func parts(_ qkv: Tensor) -> (query: Tensor, key: Tensor, value: Tensor) {
        let hidden = qkv.width / 3
        return (
            qkv.columns(0..<hidden), qkv.columns(hidden..<2 * hidden), qkv.columns(2 * hidden..<3 * hidden)
        )
    }
}

extension Compute {
    /// Attention of a joint sequence to itself.
    ///
    /// - Parameters:
    ///   - qkv: `[tokens, 3 · hidden]`, what `streams` made.
    ///   - streams: one for all tokens, or those of text and image.
    ///   - textTokens: the number of text tokens, which come first.
    ///   - rotary: of all tokens.
    ///   - heads: the number of heads.
    ///   - out: `[tokens, hidden]`, may be a block of columns.
    ///   - name: for the observer.
    func selfAttention(
        _ qkv: Tensor, of streams: [QKVProjection], textTokens: Int, rotary: RotaryAngles, heads: Int,
        into out: Tensor, name: String
    ) {
        let (query, key, value) = QKVProjection.parts(qkv)
        func norm(_ gain: KeyPath<QKVProjection, Tensor>) -> HeadNorm {
            HeadNorm(
                gains: (streams[0][keyPath: gain], streams[streams.count - 1][keyPath: gain]), boundary: textTokens,
                epsilon: QKVProjection.epsilon, rotary: rotary)
        }
        let isFused = attentionPrecision == .int8
        if observer != nil {
            show("\(name).q", query, isFused ? norm(\.queryNorm) : nil)
            show("\(name).k", key, isFused ? norm(\.keyNorm) : nil)
            observe("\(name).v", value)
        }
        if isFused {
            int8Attention(
                query, key, value, heads: heads, queryNorm: norm(\.queryNorm), keyNorm: norm(\.keyNorm), into: out)
        } else {
            attention(query, key, value, heads: heads, into: out)
        }
    }

    /// Shows the observer queries or keys as attention takes them: a normalized copy, where it does that itself.
    private func show(_ name: String, _ x: Tensor, _ norm: HeadNorm?) {
        guard let norm else { return observe(name, x) }
        workspace.scope {
            let normalized = workspace.tensor(x.shape, x.dtype)
            convert(x, into: normalized)
            for (rows, gain) in [(0..<norm.boundary, norm.gains.first), (norm.boundary..<x.rows, norm.gains.rest)] {
                rmsNormRotary(
                    normalized.rows(rows), gain: gain, epsilon: norm.epsilon, rotary: norm.rotary.rows(rows))
            }
            observe(name, normalized)
        }
    }
}
