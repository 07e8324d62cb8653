internal import NibbleCheckpoints
internal import NibbleTensors

/// One layer of a group while it is worked on.
struct LayerMember {
    /// Its name.
    let name: String
    /// Rows one after the other, f32 or bf16, finite.
    let weights: [Tensor]
    /// `[out]`.
    let bias: [Float]
    /// What is added to its inputs.
    let shift: Float
    /// The sum of each output's weights, `[out]`; empty where no shift asks for it.
    let rowSums: [Double]
    /// What it gives for the sample of inputs, `[tokens, out]` f32; nil without a sample.
    let reference: Tensor?

    /// Output channels.
    var outputs: Int { bias.count }
    /// Input channels.
    var inputs: Int { weights[0].width }

    /// - Parameters:
    ///   - member: the layer; its weights' shapes and numbers are in order.
    ///   - inputCodes: what its inputs become.
    ///   - sample: `[tokens, in]` f32, not shifted.
    ///   - compute: what computes.
    ///   - memory: for a copy of the weights meanwhile.
    init(
        _ member: LayerGroup.Member, inputCodes: InputCodes, sample: Tensor?, on compute: Compute, _ memory: Workspace
    ) {
        name = member.name
        bias = member.bias.floats()
        shift = inputCodes == .shifted ? Int4Layer.unsignedShift : 0
        weights = member.weights.map { weight in
            // The kernels read these; the rest is rare.
            if weight.dtype == .float32 || weight.dtype == .bfloat16 { return weight }
            let copy = Tensor(zeros: weight.shape, .float32)
            compute.convert(weight, into: copy)
            return copy
        }
        let (weights, bias) = (weights, bias)
        rowSums = shift == 0 ? [] : Self.rowSums(of: weights, on: compute.pool)
        reference = sample.map { Self.outputs(of: weights, bias, for: $0, on: compute, memory) }
    }

    private static func outputs(
        of weights: [Tensor], _ bias: [Float], for sample: Tensor, on compute: Compute, _ memory: Workspace
    ) -> Tensor {
        let outputs = Tensor(zeros: [sample.rows, bias.count], .float32)
        var first = 0
        for weight in weights {
            let rows = first..<first + weight.rows
            memory.scope {
                // Rows that lie apart can be converted, but not while they are multiplied.
                let copy = memory.tensor(weight.shape, .float32)
                compute.convert(weight, into: copy)
                compute.product(
                    sample, copy, bias: Tensor(Array(bias[rows]), shape: [rows.count]), into: outputs.columns(rows))
            }
            first = rows.upperBound
        }
        return outputs
    }

    /// The weights times the smoothing factors.
    ///
    /// - Parameters:
    ///   - target: `[out, in]` f32.
    ///   - smooth: `[in]` f32.
    ///   - compute: what computes.
    func writeSmoothed(into target: Tensor, _ smooth: Tensor, on compute: Compute) {
        var first = 0
        for weight in weights {
            compute.scaleColumns(weight, by: smooth, into: target.rows(first..<first + weight.rows))
            first += weight.rows
        }
    }

    /// The bias as it is stored: the shift of the inputs is taken back, as far as the main path sees it, which is not
    /// the branch's part of the weights.
    ///
    /// - Parameter pair: the branch.
    /// - Returns: `[out]` BF16.
    func storedBias(_ pair: LowRankPair) -> Tensor {
        let target = Tensor(zeros: [outputs], .bfloat16)
        let stored = target.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        let inBranch = shift == 0 ? [] : pair.rowSums()
        for row in 0..<outputs {
            let taken = shift == 0 ? 0 : Double(shift) * (rowSums[row] - inBranch[row])
            stored[row] = BFloat16(Float(Double(bias[row]) - taken))
        }
        return target
    }

    private static func rowSums(of weights: [Tensor], on pool: ThreadPool) -> [Double] {
        weights.flatMap { weight in
            let sums = Tensor(zeros: [weight.rows], .float64)
            pool.run(weight.rows) { row, _ in
                sums.mutableAddress.assumingMemoryBound(to: Double.self)[row] =
                    weight.rows(row..<row + 1).floats().reduce(0) { $0 + Double($1) }
            }
            return Array(sums.bytes.bindMemory(to: Double.self))
        }
    }
}
