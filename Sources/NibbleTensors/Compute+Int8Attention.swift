internal import CNibbleKernels

/// In what numbers a network that computes in bfloat16 multiplies in its attention; one that computes in 32-bit floats
/// does so there too.
public enum AttentionPrecision: String, Sendable, CaseIterable {
    /// Those of the network.
    case bf16
    /// Both products in bytes, summed exactly: queries and keys as SageAttention has them (arXiv 2410.02367), softmax
    /// weights and values too. Twice as fast; off by about 1 %, as 4-bit layers are by several.
    case int8

    /// What is chosen where nobody chooses: bytes beside 4-bit layers, where the instruction set has them.
    ///
    /// - Parameters:
    ///   - isQuantized: whether the transformer has 4-bit layers that are to be fast.
    ///   - precision: what it computes in.
    /// - Returns: what its attention multiplies.
    public static func automatic(isQuantized: Bool, precision: Precision) -> AttentionPrecision {
        isQuantized && precision == .bf16 && Compute.hasInt8Attention ? .int8 : .bf16
    }
}

/// The norm of each head of queries or keys, and their rotation, that attention does as it reads them.
public struct HeadNorm: Sendable {
    /// `[headDim]` f32: of the tokens before `boundary`, and of the others.
    public let gains: (first: Tensor, rest: Tensor)
    /// The number of tokens that have the first gain.
    public let boundary: Int
    /// Added to the mean square.
    public let epsilon: Float
    /// Of all tokens.
    public let rotary: RotaryAngles

    /// All of its values.
    public init(gains: (first: Tensor, rest: Tensor), boundary: Int, epsilon: Float, rotary: RotaryAngles) {
        precondition(gains.first.shape == gains.rest.shape)
        self.gains = gains
        self.boundary = boundary
        self.epsilon = epsilon
        self.rotary = rotary
    }

    fileprivate var kernelNorm: nibble_head_norm {
        nibble_head_norm(
            boundary: boundary, gains: (gains.first.readable(Float.self), gains.rest.readable(Float.self)),
            epsilon: epsilon, cosine: rotary.cosine.readable(Float.self), sine: rotary.sine.readable(Float.self))
    }

    fileprivate func fits(_ rows: Int, headDim: Int) -> Bool {
        gains.first.elementCount == headDim && rotary.cosine.shape == [rows, headDim / 2] && headDim.isMultiple(of: 2)
            && rotary.cosine.isContiguous && rotary.sine.isContiguous
    }
}

extension Compute {
    /// Whether the instruction set in use has attention in bytes.
    public static var hasInt8Attention: Bool { kernels.attention_int8 != nil }

    /// softmax(q kᵀ / √headDim) v for each head in bytes (`AttentionPrecision.int8`), on an instruction set that has it.
    ///
    /// - Parameters:
    ///   - q: `[queries, heads · headDim]` bf16.
    ///   - k: `[keys, heads · headDim]` bf16.
    ///   - v: as `k`.
    ///   - heads: the number of heads.
    ///   - queryNorm: what is done to each head of q first; nil: nothing.
    ///   - keyNorm: the same for k.
    ///   - out: `[queries, heads · headDim]` bf16; may be a block of columns of a wider matrix.
    public func int8Attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, queryNorm: HeadNorm? = nil, keyNorm: HeadNorm? = nil,
        into out: Tensor
    ) {
        guard let attention = kernels.attention_int8?.pointee else {
            preconditionFailure("\(InstructionSet.current) has no attention in bytes")
        }
        let headDim = q.width / heads
        precondition(q.width == heads * headDim && k.shape == v.shape && k.width == q.width && out.shape == q.shape)
        precondition([q, k, v, out].allSatisfy { $0.dtype == .bfloat16 } && k.rows > 0)
        precondition(queryNorm?.fits(q.rows, headDim: headDim) ?? true)
        precondition(keyNorm?.fits(k.rows, headDim: headDim) ?? true)
        let work = Int8AttentionWork(
            shape: nibble_int8_attention_shape(
                queries: q.rows, keys: k.rows, head_dim: headDim, q_stride: q.rowStride, k_stride: k.rowStride,
                v_stride: v.rowStride, out_stride: out.rowStride, scale: 1 / Float(headDim).squareRoot(), q_norm: nil,
                k_norm: nil),
            queryNorm: queryNorm?.kernelNorm, keyNorm: keyNorm?.kernelNorm)
        let queryBlocks = (q.rows + attention.query_block - 1) / attention.query_block
        let keyBlocks = (k.rows + Int(NIBBLE_KEY_BLOCK) - 1) / Int(NIBBLE_KEY_BLOCK)
        let (packedBytes, scratchBytes) = work { (attention.packed_bytes($0), attention.scratch_bytes($0)) }

        workspace.scope {
            let packed = workspace.tensor([heads, (packedBytes + 63) & ~63], .uint8)
            let scratch = workspace.tensor([pool.threadCount, (scratchBytes + 63) & ~63], .uint8)
            run("attention: pack", heads * keyBlocks) { part, worker in
                let (head, block) = part.quotientAndRemainder(dividingBy: keyBlocks)
                work {
                    attention.pack(
                        $0, k.readable(UInt16.self) + head * headDim, v.readable(UInt16.self) + head * headDim,
                        packed.rows(head..<head + 1).mutableAddress, block,
                        scratch.rows(worker..<worker + 1).mutableAddress)
                }
            }
            run("attention", heads * queryBlocks, multiplyAdds: 2 * q.rows * k.rows * q.width) { part, worker in
                let (head, block) = part.quotientAndRemainder(dividingBy: queryBlocks)
                let first = block * attention.query_block
                work {
                    attention.run(
                        $0, q.readable(UInt16.self) + head * headDim, packed.rows(head..<head + 1).address,
                        out.mutable(UInt16.self) + head * headDim, first, min(attention.query_block, q.rows - first),
                        scratch.rows(worker..<worker + 1).mutableAddress)
                }
            }
        }
    }
}

/// One head's shape; its norms are pointed at only as long as a kernel runs.
private struct Int8AttentionWork: Sendable {
    let shape: nibble_int8_attention_shape
    let queryNorm, keyNorm: nibble_head_norm?

    func callAsFunction<Result>(_ body: (UnsafePointer<nibble_int8_attention_shape>) -> Result) -> Result {
        withPointer(queryNorm) { queryNorm in
            withPointer(keyNorm) { keyNorm in
                var shape = shape
                shape.q_norm = queryNorm
                shape.k_norm = keyNorm
                return body(&shape)
            }
        }
    }

    private func withPointer<Result>(
        _ norm: nibble_head_norm?, _ body: (UnsafePointer<nibble_head_norm>?) -> Result
    ) -> Result {
        guard let norm else { return body(nil) }
        return withUnsafePointer(to: norm, body)
    }
}
