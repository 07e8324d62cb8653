internal import NibbleCheckpoints
internal import NibbleTensors

/// A layer in 4 bits, in whatever way it was made, and how its outputs are compared with those of the layer that it is
/// to replace: with the numbers that are stored and the engine's arithmetic.
struct LayerTrial {
    /// `[out, in]` I8.
    let codes: Tensor
    /// `[out, in / 64]` BF16.
    let scales: Tensor
    /// The smoothing factors.
    let smooth: SmoothingFactors
    /// The branch; of rank 0 where there is none.
    let pair: LowRankPair
    /// `[out]` BF16.
    let bias: Tensor
    /// See `LayerGroup`.
    let inputCodes: InputCodes

    /// Σ (y_q - y)² over the sample.
    ///
    /// - Parameters:
    ///   - sample: `[tokens, in]`, f32 or bf16.
    ///   - reference: what the layer should give, `[tokens, out]` f32.
    ///   - bits: what inputs are quantized to.
    ///   - compute: what computes.
    ///   - memory: for temporaries.
    /// - Returns: the sum.
    func squaredError(
        _ sample: Tensor, _ reference: Tensor, _ bits: ActivationBits, on compute: Compute, _ memory: Workspace
    ) -> Double {
        memory.scope {
            let outputs = memory.tensor(reference.shape, .float32)
            compute.quantizedProduct(sample, packed(on: compute.pool), into: outputs, bits: bits)
            return compute.squaredDistance(outputs, reference)
        }
    }

    /// In the kernels' order.
    private func packed(on pool: ThreadPool) -> QuantizedWeights {
        QuantizedWeights(
            packing: codes, scales: scales, smooth: Tensor(smooth.values, shape: [smooth.values.count]),
            down: pair.down, up: pair.up,
            bias: Tensor(bias.floats(), shape: bias.shape), inputCodes: inputCodes, on: pool)
    }

    /// As a file stores it. Codes and scales are copied, since they lie in borrowed memory.
    var weights: Int4Weights {
        let factors = Tensor(zeros: [smooth.values.count], .bfloat16)
        for (index, value) in smooth.values.enumerated() {
            factors.mutableAddress.assumingMemoryBound(to: BFloat16.self)[index] = BFloat16(value)
        }
        return Int4Weights(
            codes: codes.copied, scales: scales.copied, smooth: factors, originalSmooth: factors, down: pair.down,
            up: pair.up, bias: bias)
    }
}

extension Tensor {
    /// The same elements in memory of their own.
    fileprivate var copied: Tensor {
        let copy = Tensor(zeros: shape, dtype)
        copy.mutableAddress.copyMemory(from: address, byteCount: bytes.count)
        return copy
    }
}
