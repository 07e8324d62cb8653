internal import CNibbleKernels

/// Numbers added to attention's scores, given by the distance of key and query: `table[head, key - query + queries - 1]`.
public struct RelativeBias: Sendable {
    /// `[heads, queries + keys - 1]` f32.
    public let table: Tensor

    /// - Parameter table: `[heads, queries + keys - 1]` f32.
    public init(table: Tensor) { self.table = table }
}

extension Compute {
    /// softmax(scale · q kᵀ + bias) v for each head, without the matrix of scores: blocks of keys with a running
    /// maximum and sum (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention, arXiv 2205.14135).
    ///
    /// - Parameters:
    ///   - q: `[queries, heads · headDim]`, f32 or bf16.
    ///   - k: `[keys, heads · headDim]` of the same type.
    ///   - v: as `k`.
    ///   - heads: the number of heads.
    ///   - scale: of the scores; nil: 1/√headDim.
    ///   - bias: added to the scores.
    ///   - causal: a query sees only the keys up to its own place.
    ///   - out: `[queries, heads · headDim]` of the same type; may be a block of columns of a wider matrix.
    public func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, scale: Float? = nil, bias: RelativeBias? = nil,
        causal: Bool = false, into out: Tensor
    ) {
        let headDim = q.width / heads
        precondition(q.width == heads * headDim && k.shape == v.shape && k.width == q.width && out.shape == q.shape)
        precondition(q.dtype == k.dtype && q.dtype == v.dtype && q.dtype == out.dtype && k.rows > 0)
        precondition(bias.map { $0.table.shape == [heads, q.rows + k.rows - 1] } ?? true)
        let attention = q.dtype == .bfloat16 ? kernels.attention_bf16 : kernels.attention_f32
        let shape = nibble_attention_shape(
            queries: q.rows, keys: k.rows, head_dim: headDim, q_stride: q.rowStride, k_stride: k.rowStride,
            v_stride: v.rowStride, out_stride: out.rowStride, scale: scale ?? 1 / Float(headDim).squareRoot(),
            bias: nil, bias_row_stride: 0, causal: causal)
        let shared = withUnsafePointer(to: shape) { (attention.packed_bytes($0), attention.scratch_bytes($0)) }
        let queryBlocks = (q.rows + attention.query_block - 1) / attention.query_block
        let headBytes = headDim * q.dtype.byteSize

        workspace.scope {
            let packed = workspace.tensor([heads, (shared.0 + 63) & ~63], .uint8)
            let scratch = workspace.tensor([pool.threadCount, (shared.1 + 63) & ~63], .uint8)
            let biased: @Sendable (Int) -> nibble_attention_shape = { head in
                var shape = shape
                if let bias {
                    // One row of the table holds the bias of every query: that of the next begins one element earlier.
                    shape.bias = bias.table.readable(Float.self) + head * bias.table.rowStride + q.rows - 1
                    shape.bias_row_stride = -1
                }
                return shape
            }
            run("attention: pack", heads) { head, _ in
                var shape = shape
                attention.pack(
                    &shape, k.address + head * headBytes, v.address + head * headBytes,
                    packed.rows(head..<head + 1).mutableAddress)
            }
            run("attention", heads * queryBlocks, multiplyAdds: 2 * q.rows * k.rows * q.width) { part, worker in
                let head = part / queryBlocks
                let first = part % queryBlocks * attention.query_block
                var shape = biased(head)
                attention.run(
                    &shape, q.address + head * headBytes, packed.rows(head..<head + 1).address,
                    out.mutableAddress + head * headBytes, first, min(attention.query_block, q.rows - first),
                    scratch.rows(worker..<worker + 1).mutableAddress)
            }
        }
    }
}
