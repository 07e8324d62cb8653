internal import CNibbleKernels

extension Compute {
    /// Rows multiplied at once by one thread at most: the more, the less often weights come from memory.
    private static let quantizedRowBlock = 768
    /// Rows multiplied at once by one thread at least: with fewer, fetching the weights would show.
    private static let quantizedLeastRows = 192
    /// Parts for each thread at least, where there are rows enough: what the last ones wait for stays small.
    private static let quantizedPartsPerThread = 16
    /// Outputs multiplied at once by one thread at most: enough parts for many threads.
    private static let quantizedOutputTile = 96
    /// Outputs that a kernel sums at once.
    private static let quantizedPanel = 32
    /// Weights multiplied at once by one thread, in bytes: they pass by from the second cache for every few rows. Twice
    /// as many cost 5 to 10 % where a core has 1 MiB.
    private static let quantizedTileBytes = 384 << 10
    /// Rows that make up for unpacking the weights of a product in pairs.
    private static let quantizedLeastPairedRows = 60
    /// Rows quantized at once by one thread.
    private static let quantizedPiece = 24
    /// Codes of rows that are quantized before they are multiplied, in bytes: 384 rows of 12288 channels, which the last
    /// cache holds beside the rest.
    private static let quantizedStretchBytes = 384 * 12288

    /// y = activation(Q(x / smooth) Wᵀ + (x downᵀ) upᵀ + bias), the low-rank branch on the input as it is.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16; rows may lie apart.
    ///   - weights: the layer.
    ///   - y: `[rows, out]`, f32 or bf16; may be a block of columns of a wider matrix.
    ///   - bits: what the input is quantized to.
    ///   - activation: what is done to each element at the end: nothing, or GELU with tanh.
    public func quantizedProduct(
        _ x: Tensor, _ weights: QuantizedWeights, into y: Tensor, bits: ActivationBits,
        activation: Activation = .identity
    ) {
        let outputs = Outputs(0..<weights.output, y: y, activation: activation, branchInF32: y.dtype == .float32)
        quantizedProduct(x, weights, bits, outputs, nil)
    }

    /// stream += gate · (Q(x / smooth) Wᵀ + (x downᵀ) upᵀ + bias).
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16; rows may lie apart.
    ///   - weights: the layer.
    ///   - stream: `[rows, out]` f32, updated.
    ///   - gate: `[out]` f32; nil: 1.
    ///   - bits: what the input is quantized to.
    public func quantizedProduct(
        _ x: Tensor, _ weights: QuantizedWeights, addedTo stream: Tensor, gate: Tensor?, bits: ActivationBits
    ) {
        precondition(stream.dtype == .float32 && gate.map { $0.elementCount == weights.output } ?? true)
        let outputs = Outputs(
            0..<weights.output, y: stream, merge: NIBBLE_ADD, gate: gate, branchInF32: precision == .f32)
        quantizedProduct(x, weights, bits, outputs, nil)
    }

    /// y = activation(first half) · second half of the outputs of a layer without those.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16; rows may lie apart.
    ///   - weights: the layer; half of its outputs are a multiple of 16.
    ///   - y: `[rows, out / 2]`, f32 or bf16.
    ///   - bits: what the input is quantized to.
    ///   - activation: of the first half: nothing, or GELU with tanh.
    public func gatedQuantizedProduct(
        _ x: Tensor, _ weights: QuantizedWeights, into y: Tensor, bits: ActivationBits, activation: Activation
    ) {
        let half = weights.output / 2
        precondition(weights.output == 2 * half && half.isMultiple(of: KernelOrder.tileOutputs))
        let inF32 = y.dtype == .float32
        quantizedProduct(
            x, weights, bits, Outputs(0..<half, y: y, activation: activation, branchInF32: inF32),
            Outputs(half..<2 * half, y: y, merge: NIBBLE_MULTIPLY, branchInF32: inF32))
    }

    /// Some of a layer's outputs, where they go, and what is done to them on the way.
    private struct Outputs {
        let range: Range<Int>
        /// `[rows, range]`.
        var y: Tensor
        let activation: Activation
        let merge: nibble_merge
        let gate: Tensor?
        let branchInF32: Bool

        init(
            _ range: Range<Int>, y: Tensor, activation: Activation = .identity, merge: nibble_merge = NIBBLE_REPLACE,
            gate: Tensor? = nil, branchInF32: Bool
        ) {
            precondition(y.shape.rank == 2 && y.width == range.count)
            precondition(activation == .identity || activation == .geluTanh, "4-bit layers know no other activation")
            self.range = range
            self.y = y
            self.activation = activation
            self.merge = merge
            self.gate = gate
            self.branchInF32 = branchInF32
        }

        func rows(_ rows: Range<Int>) -> Outputs {
            var part = self
            part.y = y.rows(rows)
            return part
        }

        /// For some of the outputs, all rows.
        func destination(_ part: Range<Int>) -> nibble_destination {
            let place = part.lowerBound - range.lowerBound
            return nibble_destination(
                y: y.mutableAddress + place * y.dtype.byteSize, type: y.dtype.kernelFloat, stride: y.rowStride,
                gelu: activation == .geluTanh, merge: merge, gate: gate?.readable(Float.self),
                branch_in_f32: branchInF32)
        }
    }

    private func quantizedProduct(
        _ x: Tensor, _ weights: QuantizedWeights, _ bits: ActivationBits, _ outputs: Outputs, _ more: Outputs?
    ) {
        precondition(x.shape.rank == 2 && x.width == weights.input && outputs.y.rows == x.rows)
        // Nunchaku's kernels take 4-bit inputs; layers of others, such as T5's, are summed as ever.
        let accumulation = bits == .int4 ? accumulation : .f32
        workspace.scope {
            let rows = Self.evenBlock(of: x.rows, atMost: Self.quantizedStretchBytes / weights.input)
            let input = quantizedRows(rows, weights, bits, accumulation)
            for first in stride(from: 0, to: x.rows, by: rows) {
                let stretch = first..<min(first + rows, x.rows)
                quantize(x.rows(stretch), weights, bits, into: input)
                multiply(input, weights, outputs.rows(stretch), accumulation)
                if let more { multiply(input, weights, more.rows(stretch), accumulation) }
            }
        }
    }

    /// The size of `rows` in as few blocks as possible, all of nearly one size and of whole tiles.
    private static func evenBlock(of rows: Int, atMost limit: Int) -> Int {
        let tile = Int(NIBBLE_TILE_ROWS)
        let limit = max(limit, tile)
        let blocks = (rows + limit - 1) / limit
        return max((rows + blocks * tile - 1) / (blocks * tile), 1) * tile
    }

    /// Memory for quantized rows, whole tiles, until the end of the scope.
    private func quantizedRows(
        _ rows: Int, _ weights: QuantizedWeights, _ bits: ActivationBits, _ accumulation: Accumulation
    ) -> nibble_quantized_rows {
        let groups = weights.input / QuantizedWeights.groupSize
        let inPairs =
            accumulation == .f32 && (bits == .int4 || weights.inputCodes == .signedInPairs)
            && rows >= Self.quantizedLeastPairedRows && kernels.paired_product != nil && nibble_prefers_pairs()
        return nibble_quantized_rows(
            codes: workspace.tensor([rows, weights.input], .int8).mutable(Int8.self),
            scales: workspace.tensor([rows, groups], .float32).mutable(Float.self),
            starts: workspace.tensor([rows, groups], .int32).mutable(Int32.self),
            branch: workspace.tensor([rows, weights.rank], .float32).mutable(Float.self),
            pair_starts: inPairs ? workspace.tensor([rows, groups], .int32).mutable(Int32.self) : nil)
    }

    private func quantize(
        _ x: Tensor, _ weights: QuantizedWeights, _ bits: ActivationBits, into input: nibble_quantized_rows
    ) {
        let paired = pairedProduct(of: input)
        forRows("quantize", x.rows, block: Self.quantizedPiece) { rows in
            var layer = weights.layer
            var input = input
            let piece = x.rows(rows)
            kernels.quantize_rows(
                &layer, weights.kind(bits), piece.address, x.dtype.kernelFloat, x.rowStride, &input, rows.lowerBound,
                rows.count)
            paired?.starts(weights.input, &input, rows.lowerBound, rows.count)
        }
    }

    /// What multiplies the rows in pairs; nil: they are multiplied code by code.
    private func pairedProduct(of input: nibble_quantized_rows) -> nibble_paired_product? {
        input.pair_starts == nil ? nil : kernels.paired_product?.pointee
    }

    /// How a product is shared out: parts that follow each other have the same rows, which then come from the last cache.
    private struct Parts {
        let rowBlock, outputTile, outputTiles, count: Int

        init(rows: Int, outputs: Int, outputBytes: Int, threads: Int) {
            let fitting = Compute.quantizedTileBytes / outputBytes / Compute.quantizedPanel * Compute.quantizedPanel
            outputTile = min(max(fitting, Compute.quantizedPanel), Compute.quantizedOutputTile)
            outputTiles = (outputs + outputTile - 1) / outputTile
            let blocksForAll = (threads * Compute.quantizedPartsPerThread + outputTiles - 1) / outputTiles
            let mostRows = min(Compute.quantizedRowBlock, max(rows / blocksForAll, Compute.quantizedLeastRows))
            rowBlock = Compute.evenBlock(of: rows, atMost: mostRows)
            count = (rows + rowBlock - 1) / rowBlock * outputTiles
        }

        func rows(of part: Int, among rows: Int) -> Range<Int> {
            let first = part / outputTiles * rowBlock
            return first..<min(first + rowBlock, rows)
        }

        func outputs(of part: Int, among outputs: Range<Int>) -> Range<Int> {
            let first = outputs.lowerBound + part % outputTiles * outputTile
            return first..<min(first + outputTile, outputs.upperBound)
        }
    }

    private func multiply(
        _ input: nibble_quantized_rows, _ weights: QuantizedWeights, _ all: Outputs, _ accumulation: Accumulation
    ) {
        let rowCount = all.y.rows
        let parts = Parts(
            rows: rowCount, outputs: all.range.count, outputBytes: weights.input / 2, threads: pool.threadCount)
        workspace.scope {
            let paired = pairedProduct(of: input)
            let scratchBytes = paired?.scratch_bytes(weights.input, parts.rowBlock, parts.outputTile) ?? 0
            let scratch = workspace.tensor([pool.threadCount, (scratchBytes + 63) & ~63], .uint8)
            let product = accumulation == .f32 ? kernels.quantized_product : nibble_product_in_bf16
            let macs = rowCount * all.range.count * weights.input
            run("4-bit product", parts.count, multiplyAdds: macs) { part, worker in
                let (rows, outputs) = (parts.rows(of: part, among: rowCount), parts.outputs(of: part, among: all.range))
                var layer = weights.layer
                var input = input
                var destination = all.destination(outputs)
                if let paired {
                    paired.run(
                        &layer, &input, rows.lowerBound, rows.count, outputs.lowerBound, outputs.count, &destination,
                        scratch.rows(worker..<worker + 1).mutableAddress)
                } else {
                    product(
                        &layer, &input, rows.lowerBound, rows.count, outputs.lowerBound, outputs.count, &destination)
                }
            }
        }
    }

    /// y = (code · scale + zero) x + bias, row by row: for layers that see one row or a few, where reading the weights
    /// is the work.
    ///
    /// - Parameters:
    ///   - x: `[rows, in]` f32.
    ///   - weights: the layer.
    ///   - y: `[rows, out]` f32.
    public func quantizedRowProduct(_ x: Tensor, _ weights: QuantizedRowWeights, into y: Tensor) {
        precondition(x.dtype == .float32 && y.dtype == .float32)
        precondition(x.shape.rank == 2 && x.width == weights.input && y.shape == [x.rows, weights.output])
        let product = accumulation == .f32 ? kernels.quantized_row_product : nibble_row_product_in_bf16
        forRows("4-bit row product", weights.output, block: 256, multiplyAdds: x.rows * weights.input * weights.output)
        { outputs in
            for row in 0..<x.rows {
                product(
                    x.rows(row..<row + 1).readable(Float.self), weights.codes.readable(UInt8.self),
                    weights.scales.readable(UInt16.self), weights.zeros.readable(UInt16.self),
                    weights.bias.readable(Float.self), y.rows(row..<row + 1).mutable(Float.self), weights.input,
                    outputs.lowerBound, outputs.count)
            }
        }
    }
}
