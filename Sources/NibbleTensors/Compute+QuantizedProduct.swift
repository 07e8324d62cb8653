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
    ///   - activated: how many outputs that is done to, the first ones, a multiple of 16; nil: all.
    public func quantizedProduct(
        _ x: Tensor, _ weights: QuantizedWeights, into y: Tensor, bits: ActivationBits,
        activation: Activation = .identity, of activated: Int? = nil
    ) {
        let border = activated ?? weights.output
        precondition(border <= weights.output && (activated == nil || border.isMultiple(of: KernelOrder.tileOutputs)))
        precondition(x.shape.rank == 2 && x.width == weights.input && y.shape == [x.rows, weights.output])
        precondition(activation == .identity || activation == .geluTanh, "4-bit layers know no other activation")
        // Nunchaku's kernels take 4-bit inputs; layers of others, such as T5's, are summed as ever.
        let accumulation = bits == .int4 ? accumulation : .f32
        workspace.scope {
            let rows = Self.evenBlock(of: x.rows, atMost: Self.quantizedStretchBytes / weights.input)
            let input = quantizedRows(rows, weights, bits, accumulation)
            for first in stride(from: 0, to: x.rows, by: rows) {
                let stretch = first..<min(first + rows, x.rows)
                quantize(x.rows(stretch), weights, bits, into: input)
                for (outputs, activation) in [(0..<border, activation), (border..<weights.output, .identity)]
                where !outputs.isEmpty {
                    multiply(
                        input, weights, outputs, into: y.rows(stretch), gelu: activation == .geluTanh, accumulation)
                }
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
            accumulation == .f32 && (bits == .int4 || weights.leavesRoomForPairs)
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
        _ input: nibble_quantized_rows, _ weights: QuantizedWeights, _ outputs: Range<Int>, into y: Tensor, gelu: Bool,
        _ accumulation: Accumulation
    ) {
        let parts = Parts(
            rows: y.rows, outputs: outputs.count, outputBytes: weights.input / 2, threads: pool.threadCount)
        workspace.scope {
            let paired = pairedProduct(of: input)
            let scratchBytes = paired?.scratch_bytes(weights.input, parts.rowBlock, parts.outputTile) ?? 0
            let scratch = workspace.tensor([pool.threadCount, (scratchBytes + 63) & ~63], .uint8)
            let product = accumulation == .f32 ? kernels.quantized_product : nibble_product_in_bf16
            let macs = y.rows * outputs.count * weights.input
            run("4-bit product", parts.count, multiplyAdds: macs) { part, worker in
                let (rows, outputs) = (parts.rows(of: part, among: y.rows), parts.outputs(of: part, among: outputs))
                var layer = weights.layer
                var input = input
                if let paired {
                    paired.run(
                        &layer, &input, rows.lowerBound, rows.count, outputs.lowerBound, outputs.count, gelu,
                        y.mutableAddress, y.dtype.kernelFloat, y.rowStride,
                        scratch.rows(worker..<worker + 1).mutableAddress)
                } else {
                    product(
                        &layer, &input, rows.lowerBound, rows.count, outputs.lowerBound, outputs.count, gelu,
                        y.mutableAddress, y.dtype.kernelFloat, y.rowStride)
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
