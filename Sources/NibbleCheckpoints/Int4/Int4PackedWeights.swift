public import NibbleTensors

/// A W4A4 or W4A8 layer in the order that the kernels read (`KernelOrder`), but for its vectors: what a nibble file holds of it.
public struct Int4PackedWeights: Sendable {
    /// `[out / 16, in / 8, 64]` U8.
    public let codes: Tensor
    /// `[out / 16, in / 64, 16]` BF16.
    public let scales: Tensor
    /// `[in / 2, rank, 2]` BF16; rank 0: no pair.
    public let down: Tensor
    /// `[out / 16, rank, 16]` BF16.
    public let up: Tensor
    /// What inputs are divided by: `[in]` BF16 or F16.
    public let smooth: Tensor
    /// For the record: `[in]` BF16 or F16.
    public let originalSmooth: Tensor
    /// `[out]` BF16 or F16.
    public let bias: Tensor

    /// What the kernels take; the vectors become 32-bit floats of their own.
    ///
    /// - Parameter inputCodes: what inputs become.
    /// - Returns: the same, for `Compute.quantizedProduct`.
    public func quantizedWeights(inputCodes: InputCodes) -> QuantizedWeights {
        QuantizedWeights(
            output: bias.elementCount, codes: codes, scales: scales, smooth: smooth.widened, down: down, up: up,
            bias: bias.widened, inputCodes: inputCodes)
    }

    /// All parts by Nunchaku's keys.
    var parts: [String: Tensor] {
        [
            "qweight": codes, "wscales": scales, "lora_down": down, "lora_up": up, "smooth": smooth,
            "smooth_orig": originalSmooth, "bias": bias,
        ]
    }

    /// What the kernels read in place, by a nibble file's keys.
    public var large: [String: Tensor] { ["codes": codes, "scales": scales, "down": down, "up": up] }
}

extension Int4Weights {
    /// The layer in the kernels' order, on this thread; 16-bit floats that the kernels do not read are rounded.
    ///
    /// - Returns: the tensors of a nibble file's layer of the kind W4A8, by their keys: no bias, no record of another
    ///   smoothing, and a low-rank pair if there is one.
    public func kernelOrder() -> [String: Tensor] {
        let tiles = KernelOrder.tiles(outputs)
        let codes = Tensor(zeros: [tiles, inputs / 8, 64], .uint8)
        let scales = Tensor(zeros: [tiles, inputs / Self.groupSize, KernelOrder.tileOutputs], .bfloat16)
        KernelOrder.pack(codes: self.codes, into: codes)
        KernelOrder.pack(scales: self.scales.inBFloat16, into: scales)
        var parts = ["codes": codes, "scales": scales, "smooth": smooth]
        guard rank > 0 else { return parts }
        let down = Tensor(zeros: [inputs / 2, rank, 2], .bfloat16)
        let up = Tensor(zeros: [tiles, rank, KernelOrder.tileOutputs], .bfloat16)
        KernelOrder.pack(down: self.down.inBFloat16, into: down)
        KernelOrder.pack(up: self.up.inBFloat16, into: up)
        parts["down"] = down
        parts["up"] = up
        return parts
    }
}

/// A modulation in the order that the kernels read, its outputs in their original order.
public struct Int4PackedModulation: Sendable {
    /// `[out / 16, in / 8, 64]` U8.
    public let codes: Tensor
    /// `[out / 16, in / 64, 16]` BF16.
    public let scales: Tensor
    /// `[out / 16, in / 64, 16]` BF16.
    public let zeros: Tensor
    /// `[out]` BF16 or F16, as `Int4ModulationWeights.bias`.
    public let bias: Tensor
    /// Vectors that the outputs are made of; see `Int4ModulationWeights.splits`.
    public let splits: Int

    /// What the kernels take: without the folded 1.
    public var quantizedWeights: QuantizedRowWeights {
        QuantizedRowWeights(
            output: bias.elementCount, codes: codes, scales: scales, zeros: zeros,
            bias: Tensor(Int4ModulationWeights.originalBias(bias, splits: splits), shape: bias.shape))
    }

    /// All parts by Nunchaku's keys.
    var parts: [String: Tensor] { ["qweight": codes, "wscales": scales, "wzeros": zeros, "bias": bias] }

    /// What the kernels read in place, by a nibble file's keys.
    public var large: [String: Tensor] { ["codes": codes, "scales": scales, "zeros": zeros] }
}

extension Int4Checkpoint {
    /// Brings a layer into the kernels' order, in pieces that all threads share out.
    public func packed(_ layer: Int4Layer, on pool: ThreadPool) throws(CheckpointError) -> Int4PackedWeights {
        let (outputs, inputs, rank) = (layer.outputs, layer.inputs, rank(of: layer) ?? 0)
        let tiles = KernelOrder.tiles(outputs)
        let result = Int4PackedWeights(
            codes: Tensor(zeros: [tiles, inputs / 8, 64], .uint8),
            scales: Tensor(zeros: [tiles, inputs / Int4Weights.groupSize, KernelOrder.tileOutputs], .bfloat16),
            down: Tensor(zeros: [inputs / 2, rank, 2], .bfloat16),
            up: Tensor(zeros: [tiles, rank, KernelOrder.tileOutputs], .bfloat16),
            smooth: Tensor(zeros: [inputs], dtype(of: "smooth", in: layer)),
            originalSmooth: Tensor(zeros: [inputs], dtype(of: "smooth_orig", in: layer)),
            bias: Tensor(zeros: [outputs], dtype(of: "bias", in: layer)))
        try forEachPiece(layer, on: pool) { rows, piece in
            let tiles = KernelOrder.tiles(rows)
            KernelOrder.pack(codes: piece.codes, into: result.codes.rows(tiles))
            KernelOrder.pack(scales: piece.scales.inBFloat16, into: result.scales.rows(tiles))
            KernelOrder.pack(up: piece.up.inBFloat16, into: result.up.rows(tiles))
            piece.bias.copy(to: result.bias.rows(rows))
            guard rows.lowerBound == 0 else { return }
            KernelOrder.pack(down: piece.down.inBFloat16, into: result.down)
            piece.smooth.copy(to: result.smooth)
            piece.originalSmooth.copy(to: result.originalSmooth)
        }
        return result
    }

    /// Brings a modulation into the kernels' order.
    public func packedModulation(
        _ layer: Int4Layer, on pool: ThreadPool
    ) throws(CheckpointError) -> Int4PackedModulation {
        let plain = try modulation(layer, on: pool)
        let tiles = KernelOrder.tiles(layer.outputs)
        let groups = layer.inputs / Int4Weights.groupSize
        let result = Int4PackedModulation(
            codes: Tensor(zeros: [tiles, layer.inputs / 8, 64], .uint8),
            scales: Tensor(zeros: [tiles, groups, KernelOrder.tileOutputs], .bfloat16),
            zeros: Tensor(zeros: [tiles, groups, KernelOrder.tileOutputs], .bfloat16),
            bias: plain.bias, splits: plain.splits)
        let outputs = layer.outputs
        forParts(of: outputs, size: NunchakuLayout.tileRows, on: pool) { rows in
            let tiles = KernelOrder.tiles(rows)
            KernelOrder.pack(codes: plain.codes.rows(rows), into: result.codes.rows(tiles))
            KernelOrder.pack(scales: plain.scales.rows(rows).inBFloat16, into: result.scales.rows(tiles))
            KernelOrder.pack(scales: plain.zeros.rows(rows).inBFloat16, into: result.zeros.rows(tiles))
        }
        return result
    }

    /// Bytes that the layers take in the kernels' order.
    public var packedByteCount: Int {
        layers.reduce(0) { sum, layer in
            let tensors = layer.tensors(rank: rank(of: layer) ?? 0, form: .nibble)
            return sum + tensors.values.reduce(0) { $0 + $1.shape.elementCount * $1.dtype.byteSize }
        }
    }
}

/// Calls the body with parts of some rows: on all threads of a pool, or with all of them on this one.
func forParts(
    of count: Int, size: Int, on pool: ThreadPool?, _ body: @escaping @Sendable (_ rows: Range<Int>) -> Void
) {
    guard let pool else { return body(0..<count) }
    pool.run((count + size - 1) / size) { part, _ in body(part * size..<min((part + 1) * size, count)) }
}

extension Tensor {
    /// The tensor itself, or a copy whose numbers are rounded: what Nunchaku's loader makes of float16 where the model is
    /// in bfloat16, the only 16-bit type that the kernels read.
    package var inBFloat16: Tensor {
        guard dtype != .bfloat16 else { return self }
        let values = floats()
        let result = Tensor(zeros: shape, .bfloat16)
        let target = result.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        for index in values.indices { target[index] = BFloat16(values[index]) }
        return result
    }

    /// Copies the elements to a tensor, or a block of one, of the same shape and type.
    func copy(to block: Tensor) {
        precondition(block.shape == shape && block.dtype == dtype)
        if isContiguous, block.isContiguous {
            block.mutableAddress.copyMemory(from: address, byteCount: bytes.count)
            return
        }
        for row in 0..<rows {
            let bytes = rows(row..<row + 1).bytes
            block.rows(row..<row + 1).mutableAddress.copyMemory(
                from: bytes.baseAddress ?? address, byteCount: bytes.count)
        }
    }
}
