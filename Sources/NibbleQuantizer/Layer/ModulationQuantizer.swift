public import NibbleCheckpoints
public import NibbleTensors

/// Makes 4-bit modulation layers (adaLN), whose inputs stay in 16 bits: each weight is rounded by itself.
public struct ModulationQuantizer {
    private let compute: Compute

    /// - Parameter compute: what computes.
    public init(on compute: Compute) { self.compute = compute }

    /// Rounds a layer as DeepCompressor does: symmetric, scale = bf16(absmax / 7) of 64 inputs of one output, then stored
    /// without sign, with a zero of bf16(-7 · scale).
    ///
    /// - Parameters:
    ///   - weight: `[out, in]` of any float type, in the original order; in a multiple of 64.
    ///   - bias: `[out]` of any float type.
    ///   - splits: vectors that the outputs are made of.
    ///   - name: the layer's, for errors.
    /// - Returns: weights whose bias has the 1 folded in.
    /// - Throws: `LayerError.notFinite`, `LayerError.wrongShape`.
    public func callAsFunction(
        _ weight: Tensor, bias: Tensor, splits: Int, name: String
    ) throws(LayerError) -> Int4ModulationWeights {
        let (outputs, inputs) = (weight.rows, weight.width)
        let groupSize = Int4Weights.groupSize
        guard inputs > 0, inputs.isMultiple(of: groupSize), splits > 0, outputs.isMultiple(of: splits),
            bias.elementCount == outputs
        else {
            throw .wrongShape(
                layer: name,
                reason:
                    "\(outputs) × \(inputs) weights, \(bias.elementCount) biases, \(splits) vectors; inputs must be a "
                    + "multiple of \(groupSize), outputs of the number of vectors")
        }
        let values = Tensor(zeros: weight.shape, .float32)
        compute.convert(weight, into: values)
        _ = try LayerChecks.maxima([values], name, "its weights", on: compute)
        let biases = bias.floats()
        guard biases.allSatisfy(\.isFinite) else { throw .notFinite(layer: name, what: "its bias") }
        let signed = Tensor(zeros: weight.shape, .int8)
        let scales = Tensor(zeros: [outputs, inputs / groupSize], .bfloat16)
        compute.round(values, minus: nil, codes: signed, scales: scales)
        var result = Int4ModulationWeights(
            codes: Tensor(storage: signed.storage, shape: signed.shape, dtype: .uint8), scales: scales,
            zeros: Tensor(zeros: scales.shape, .bfloat16), bias: Tensor(zeros: [outputs], .bfloat16), splits: splits)
        Self.removeSigns(&result)
        Self.foldOnes(into: &result, biases)
        return result
    }

    private static func removeSigns(_ weights: inout Int4ModulationWeights) {
        let codes = weights.codes.mutableAddress.assumingMemoryBound(to: UInt8.self)
        for index in 0..<weights.codes.elementCount { codes[index] &+= 7 }
        let zeros = weights.zeros.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        for (index, scale) in weights.scales.floats().enumerated() { zeros[index] = BFloat16(-7 * scale) }
    }

    /// The 1 is added in bfloat16, as the file's makers add it.
    private static func foldOnes(into weights: inout Int4ModulationWeights, _ biases: [Float]) {
        let stored = weights.bias.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        for (index, bias) in biases.enumerated() { stored[index] = BFloat16(bias) }
        for range in Int4ModulationWeights.scaleOutputs(biases.count, splits: weights.splits) {
            for index in range { stored[index] = BFloat16(Float(stored[index]) + 1) }
        }
    }
}
