public import NibbleCheckpoints
public import NibbleTensors

/// A linear layer of 4-bit weights with a low-rank branch (SVDQuant, arXiv 2411.05007, §4). Its input is quantized as it
/// comes, to what `Compute.activationBits` says.
public struct QuantizedLinear: LinearLayer {
    /// In the kernels' order.
    public let weights: QuantizedWeights

    /// Reads a layer and brings its weights into the kernels' order.
    ///
    /// - Parameters:
    ///   - layer: one of the checkpoint's, of the kind W4A4.
    ///   - checkpoint: where it is.
    /// - Throws: `CheckpointError`, for numbers that cannot be computed with, or of 16-bit floats that are not bfloat16.
    public init(_ layer: Int4Layer, of checkpoint: NunchakuCheckpoint) throws(CheckpointError) {
        let stored = try checkpoint.weights(layer)
        for (key, part) in [("wscales", stored.scales), ("lora_down", stored.down), ("lora_up", stored.up)] {
            try checkpoint.requireBFloat16(part, "\(layer.name).\(key)")
        }
        weights = QuantizedWeights(
            packing: stored.codes, scales: stored.scales, smooth: stored.smooth.widened, down: stored.down,
            up: stored.up, bias: stored.bias.widened, isShifted: layer.shift != 0)
    }

    public func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        compute.quantizedProduct(x, weights, into: y, bits: compute.activationBits, activation: activation)
    }
}

/// A linear layer of 4-bit weights for an input of one row that is not quantized (W4A16): the modulations.
public struct QuantizedRowLinear: LinearLayer {
    /// In the kernels' order.
    public let weights: QuantizedRowWeights

    /// Reads a modulation, in its original order and without the 1 that the file folds into its bias.
    ///
    /// - Parameters:
    ///   - layer: one of the checkpoint's, of the kind W4A16.
    ///   - checkpoint: where it is.
    /// - Throws: `CheckpointError`, as `QuantizedLinear`.
    public init(_ layer: Int4Layer, of checkpoint: NunchakuCheckpoint) throws(CheckpointError) {
        let stored = try checkpoint.modulation(layer)
        for (key, part) in [("wscales", stored.scales), ("wzeros", stored.zeros)] {
            try checkpoint.requireBFloat16(part, "\(layer.name).\(key)")
        }
        // Codes of 0 to 15 are the same bytes with a sign and without.
        let codes = Tensor(
            storage: stored.codes.storage, byteOffset: stored.codes.byteOffset, shape: stored.codes.shape, dtype: .int8)
        weights = QuantizedRowWeights(
            packing: codes, scales: stored.scales, zeros: stored.zeros,
            bias: Tensor(stored.originalBias(), shape: stored.bias.shape))
    }

    public func callAsFunction(_ x: Tensor, into y: Tensor, activation: Activation, on compute: Compute) {
        precondition(activation == .identity)
        compute.quantizedRowProduct(x, weights, into: y)
    }
}

extension Tensor {
    /// A copy in 32-bit floats.
    fileprivate var widened: Tensor { Tensor(floats(), shape: shape) }
}

extension NunchakuCheckpoint {
    /// The kernels read scales and low-rank factors in the type that FLUX.1 is published in.
    fileprivate func requireBFloat16(_ part: Tensor, _ name: String) throws(CheckpointError) {
        guard part.dtype == .bfloat16 else {
            throw .wrongType(path: location, name: name, found: part.dtype.rawValue, expected: "BF16")
        }
    }
}
