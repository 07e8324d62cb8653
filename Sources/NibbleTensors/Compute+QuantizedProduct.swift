internal import CNibbleKernels

extension Compute {
    /// Rows multiplied at once by one thread at most: the more, the less often weights come from memory.
    private static let quantizedRowBlock = 768
    /// Parts for each thread at least, where there are rows enough: what the last ones wait for stays small.
    private static let quantizedPartsPerThread = 16
    /// Rows multiplied at once by one thread at least: with fewer, fetching the weights would show.
    private static let quantizedLeastRows = 192
    /// Outputs that a kernel sums at once at most, in whole tiles.
    private static let quantizedPanel = 48
    /// Weights multiplied at once by one thread, in bytes: they pass by from the second cache for every few rows. Twice
    /// as many cost 5 to 10 % where a core has 1 MiB.
    private static let quantizedTileBytes = 384 << 10
    /// Outputs multiplied at once by one thread at most: enough parts for many threads.
    private static let quantizedOutputTile = 2 * quantizedPanel
    /// Rows quantized at once by one thread.
    private static let quantizedPiece = 24
    /// Codes of rows that are quantized before they are multiplied, in bytes: 768 rows of 12288 channels, which the last
    /// cache holds.
    private static let quantizedStretchBytes = 768 * 12288

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
            let input = quantizedRows(rows, weights)
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
        let blocks = (rows + limit - 1) / limit
        return max((rows + blocks * tile - 1) / (blocks * tile), 1) * tile
    }

    /// Memory for quantized rows, whole tiles, until the end of the scope.
    private func quantizedRows(_ rows: Int, _ weights: QuantizedWeights) -> nibble_quantized_rows {
        let groups = weights.input / QuantizedWeights.groupSize
        return nibble_quantized_rows(
            codes: workspace.tensor([rows, weights.input], .int8).mutable(Int8.self),
            scales: workspace.tensor([rows, groups], .float32).mutable(Float.self),
            starts: workspace.tensor([rows, groups], .int32).mutable(Int32.self),
            branch: workspace.tensor([rows, weights.rank], .float32).mutable(Float.self))
    }

    private func quantize(
        _ x: Tensor, _ weights: QuantizedWeights, _ bits: ActivationBits, into input: nibble_quantized_rows
    ) {
        forRows("quantize", x.rows, block: Self.quantizedPiece) { rows in
            var layer = weights.layer
            var input = input
            let piece = x.rows(rows)
            kernels.quantize_rows(
                &layer, weights.kind(bits), piece.address, x.dtype.kernelFloat, x.rowStride, &input, rows.lowerBound,
                rows.count)
        }
    }

    /// Parts that follow each other share their rows, which then come from the last cache.
    private func multiply(
        _ input: nibble_quantized_rows, _ weights: QuantizedWeights, _ outputs: Range<Int>, into y: Tensor, gelu: Bool,
        _ accumulation: Accumulation
    ) {
        let fitting = Self.quantizedTileBytes / (weights.input / 2) / Self.quantizedPanel * Self.quantizedPanel
        let outputTile = min(max(fitting, Self.quantizedPanel), Self.quantizedOutputTile)
        let outputTiles = (outputs.count + outputTile - 1) / outputTile
        let parts = pool.threadCount * Self.quantizedPartsPerThread
        let blocksForAll = (parts + outputTiles - 1) / outputTiles
        let mostRows = min(Self.quantizedRowBlock, max(y.rows / blocksForAll, Self.quantizedLeastRows))
        let rowBlock = Self.evenBlock(of: y.rows, atMost: mostRows)
        let rowBlocks = (y.rows + rowBlock - 1) / rowBlock
        let macs = y.rows * outputs.count * weights.input
        run("4-bit product", rowBlocks * outputTiles, multiplyAdds: macs) { part, _ in
            let firstRow = part / outputTiles * rowBlock
            let firstOutput = outputs.lowerBound + part % outputTiles * outputTile
            let rowCount = min(rowBlock, y.rows - firstRow)
            let outputCount = min(outputTile, outputs.upperBound - firstOutput)
            var layer = weights.layer
            var input = input
            switch accumulation {
            case .f32:
                kernels.quantized_product(
                    &layer, &input, firstRow, rowCount, firstOutput, outputCount, gelu, y.mutableAddress,
                    y.dtype.kernelFloat, y.rowStride)
            case .nunchaku:
                nibble_product_in_bf16(
                    &layer, &input, firstRow, rowCount, firstOutput, outputCount, gelu, y.mutableAddress,
                    y.dtype.kernelFloat, y.rowStride)
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
