internal import CNibbleKernels

/// What is done to a picture on its way into a convolution, band by band, so that the result is never there as a whole.
public enum FeatureTransform: Sendable {
    /// Nothing.
    case identity
    /// SiLU of the scaled channels: a group normalization and its activation.
    case scaledSiLU(ChannelScale)
    /// Every pixel four times: nearest-neighbor interpolation to twice the size.
    case doubled

    /// Pixels along an axis for each one of the picture.
    public var factor: Int { if case .doubled = self { 2 } else { 1 } }
}

extension Compute {
    /// The type of a convolution's operands: bfloat16 where that is asked for and the processor multiplies it natively.
    var convolutionOperand: DType { precision == .bf16 && hasFastBFloat16Products ? .bfloat16 : .float32 }

    /// y = convolution(transform(x)), or y += it, for some rows of the picture; zeros beyond the picture's edge.
    ///
    /// Bands of rows are worked by one thread each: it writes the transformed rows into memory of its own, with those
    /// above and below that the band's outputs read, and hands them to oneDNN.
    ///
    /// - Parameters:
    ///   - x: f32 or bf16; holds all rows that the outputs read.
    ///   - transform: done to x first.
    ///   - weights: the convolution.
    ///   - y: f32 or bf16; its rows are the outputs. Shares no memory with x.
    ///   - adding: whether the outputs are added to what y holds.
    public func convolve(
        _ x: FeatureMap, _ transform: FeatureTransform = .identity, with weights: ConvolutionWeights,
        into y: FeatureMap, adding: Bool = false
    ) {
        let geometry = weights.geometry
        let width = x.width * transform.factor
        precondition(x.channels == weights.input && y.channels == weights.output && y.width == geometry.outputs(width))
        precondition(y.height == geometry.outputs(x.height * transform.factor))
        let operand = convolutionOperand
        // oneDNN writes bf16 only from bf16 operands; sums are added up in f32 before they are rounded.
        let direct = !adding && (y.tensor.dtype == .float32 || operand == .bfloat16)
        let result = direct ? y.tensor.dtype : .float32
        let bands = FeatureMap.bands(of: y.rows, height: y.height, width: y.width)
        let ready = bands.map { band in
            weights.ready(
                .init(rows: geometry.inputs(band).count, width: width, operand: operand, result: result))
        }
        let longest = bands.map(\.count).max() ?? 0
        let memory = ConvolutionMemory(
            geometry: geometry, input: weights.input, output: direct ? 0 : weights.output, width: width,
            outputRows: longest, operand: operand, library: ready.map(\.compiled.scratchBytes).max() ?? 0)
        workspace.scope {
            let scratch = workspace.tensor([pool.threadCount, memory.byteCount], .uint8)
            run("convolution", bands.count) { part, worker in
                let own = scratch.rows(worker..<worker + 1).mutableAddress
                let y = y.slice(bands[part]).tensor
                x.write(transform, rows: geometry.inputs(bands[part]), operand, to: own)
                let sums = direct ? y.mutableAddress : own + memory.sumsOffset
                ready[part].run(own, into: sums, scratch: own + memory.libraryOffset)
                if !direct { Self.finish(sums.assumingMemoryBound(to: Float.self), y, adding: adding) }
            }
        }
    }

    /// Puts a band's sums `[pixels, channels]` into y, or adds them to it.
    private static func finish(_ sums: UnsafeMutablePointer<Float>, _ y: Tensor, adding: Bool) {
        let channels = y.width
        if adding, y.dtype == .float32 {
            kernels.gated_add(
                y.mutable(Float.self), y.rowStride, sums, NIBBLE_F32, channels, y.rows, channels, nil)
            return
        }
        if adding {
            kernels.gated_add(
                sums, channels, y.address, y.dtype.kernelFloat, y.rowStride, y.rows, channels, nil)
        }
        kernels.convert(sums, NIBBLE_F32, y.mutableAddress, y.dtype.kernelFloat, y.elementCount)
    }

    /// An upper bound of the memory that `convolve` takes from the workspace, for plans.
    ///
    /// - Parameters:
    ///   - geometry: of the convolution.
    ///   - input: its input channels.
    ///   - output: its output channels.
    ///   - height: of the outputs.
    ///   - width: of the outputs.
    /// - Returns: bytes.
    public func convolutionMemory(
        _ geometry: ConvolutionGeometry, input: Int, output: Int, height: Int, width: Int
    ) -> Int {
        let memory = ConvolutionMemory(
            geometry: geometry, input: input, output: output, width: width * geometry.stride,
            outputRows: min(height, FeatureMap.bandHeight(height: height, width: width)), operand: convolutionOperand,
            library: ConvolutionMemory.usualLibraryBytes)
        return pool.threadCount * memory.byteCount
    }
}

/// Where a thread's memory for one band lies: transformed rows, sums, oneDNN's own.
private struct ConvolutionMemory {
    /// What oneDNN's convolutions ask for, with room: 8 KiB was seen for every shape here.
    static let usualLibraryBytes = 64 << 10

    let sumsOffset, libraryOffset, byteCount: Int

    init(
        geometry: ConvolutionGeometry, input: Int, output: Int, width: Int, outputRows: Int, operand: DType,
        library: Int
    ) {
        func aligned(_ bytes: Int) -> Int { (bytes + 63) & ~63 }
        let inputRows = outputRows == 0 ? 0 : geometry.inputs(0..<outputRows).count
        sumsOffset = aligned(inputRows * width * input * operand.byteSize)
        libraryOffset = sumsOffset + aligned(outputRows * geometry.outputs(width) * output * 4)
        byteCount = libraryOffset + aligned(library)
    }
}

extension FeatureMap {
    /// Writes rows of the transformed picture, contiguous; rows outside of it are zeros.
    fileprivate func write(
        _ transform: FeatureTransform, rows wanted: Range<Int>, _ dtype: DType, to target: UnsafeMutableRawPointer
    ) {
        let factor = transform.factor
        let rowBytes = width * factor * channels * dtype.byteSize
        let inside = wanted.clamped(to: 0..<height * factor)
        memset(target, rows: inside.lowerBound - wanted.lowerBound, of: rowBytes)
        let start = target + (inside.lowerBound - wanted.lowerBound) * rowBytes
        memset(start + inside.count * rowBytes, rows: wanted.upperBound - inside.upperBound, of: rowBytes)
        switch transform {
        case .identity:
            let x = slice(inside).tensor
            kernels.convert(x.address, x.dtype.kernelFloat, start, dtype.kernelFloat, x.elementCount)
        case .scaledSiLU(let scale):
            let x = slice(inside).tensor
            kernels.scale_offset(
                x.address, x.dtype.kernelFloat, x.rowStride, start, dtype.kernelFloat, channels, x.rows, channels,
                scale.gain.readable(Float.self), scale.offset.readable(Float.self), true)
        case .doubled:
            for (index, row) in inside.enumerated() {
                let destination = start + index * rowBytes
                if index > 0, row % 2 == 1 {
                    destination.copyMemory(from: destination - rowBytes, byteCount: rowBytes)
                } else {
                    writeDoubled(row: row / 2, dtype, to: destination)
                }
            }
        }
    }

    private func memset(_ target: UnsafeMutableRawPointer, rows: Int, of rowBytes: Int) {
        target.initializeMemory(as: UInt8.self, repeating: 0, count: rows * rowBytes)
    }

    /// Writes one row with every pixel twice: first the row as it is into the second half, then its pixels one by one
    /// from the left; the reading stays ahead of the writing.
    private func writeDoubled(row: Int, _ dtype: DType, to target: UnsafeMutableRawPointer) {
        let x = slice(row..<row + 1).tensor
        let pixelBytes = channels * dtype.byteSize
        let half = target + width * pixelBytes
        kernels.convert(x.address, x.dtype.kernelFloat, half, dtype.kernelFloat, x.elementCount)
        for pixel in 0..<width {
            let source = half + pixel * pixelBytes
            let pair = target + 2 * pixel * pixelBytes
            pair.copyMemory(from: source, byteCount: pixelBytes)
            (pair + pixelBytes).copyMemory(from: pair, byteCount: pixelBytes)
        }
    }
}
