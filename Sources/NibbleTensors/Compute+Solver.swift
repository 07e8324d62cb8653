internal import CNibbleKernels

/// What the quantizer asks of matrices. All are f32 and row-major unless said otherwise; `in` is a multiple of
/// `QuantizedWeights.groupSize`.
extension Compute {
    /// Columns that one thread works at once where work is split over columns.
    private static let columnBlock = 256

    /// y = x · diag(factors).
    ///
    /// - Parameters:
    ///   - x: `[rows, n]` of any float type; rows may lie apart.
    ///   - factors: `[n]` f32.
    ///   - y: `[rows, n]` f32.
    public func scaleColumns(_ x: Tensor, by factors: Tensor, into y: Tensor) {
        precondition(factors.elementCount == x.width && y.dtype == .float32)
        convert(x, into: y)
        forRows("scale columns", y.rows, block: Self.rowBlock) { rows in
            let y = y.rows(rows)
            kernels.multiply(y.mutableAddress, y.rowStride, factors.address, 0, NIBBLE_F32, rows.count, y.width)
        }
    }

    /// maxima[i] = max(maxima[i], |x[:, i]|), where NaN is above all.
    ///
    /// - Parameters:
    ///   - maxima: `[n]` f32, not negative.
    ///   - x: `[rows, n]`, f32 or bf16; rows may lie apart.
    public func raise(_ maxima: Tensor, toMagnitudesOf x: Tensor) {
        precondition(maxima.dtype == .float32 && maxima.elementCount == x.width)
        forRows("column maxima", x.width, block: Self.columnBlock) { columns in
            let x = x.columns(columns)
            kernels.column_maxima(
                x.address, x.dtype.kernelFloat, x.rowStride, x.rows, x.width,
                maxima.mutable(Float.self) + columns.lowerBound)
        }
    }

    /// z = yᵀ w, summed in pieces of 128 rows.
    ///
    /// - Parameters:
    ///   - y: `[rows, rank]`, contiguous; the rank a multiple of 4.
    ///   - w: `[rows, in]`.
    ///   - z: `[rank, in]`, contiguous.
    public func transposedProduct(_ y: Tensor, _ w: Tensor, into z: Tensor) {
        precondition(y.rows == w.rows && z.shape == [y.width, w.width] && y.width.isMultiple(of: 4))
        precondition(y.isContiguous && z.isContiguous)
        forRows("transposed product", w.width, block: Self.columnBlock) { columns in
            let w = w.columns(columns)
            kernels.solver.transposed_product(
                y.readable(Float.self), y.width, w.readable(Float.self), w.rowStride, w.rows, w.width,
                z.mutable(Float.self) + columns.lowerBound, z.width)
        }
    }

    /// Σ (x − y)² of matrices of one shape, rows added one after the other.
    public func squaredDistance(_ x: Tensor, _ y: Tensor) -> Double {
        precondition(x.shape == y.shape && x.dtype == .float32 && y.dtype == .float32)
        let sums = Tensor(zeros: [x.rows], .float64)
        forRows("squared distance", x.rows, block: Self.rowBlock) { rows in
            for row in rows {
                sums.mutable(Double.self)[row] = kernels.solver.squared_distance(
                    x.readable(Float.self) + row * x.rowStride, y.readable(Float.self) + row * y.rowStride, x.width)
            }
        }
        return UnsafeBufferPointer(start: sums.readable(Double.self), count: x.rows).reduce(0, +)
    }
}

// MARK: - Rounding to 4 bits

extension Compute {
    /// residual -= up · down, then codes and scales of the residual, each weight by itself: scale = bf16(absmax / 7) of
    /// 64 inputs of one output (1 where all are zero), code = rne(weight / scale) within -7...7.
    ///
    /// - Parameters:
    ///   - residual: `[out, in]`, contiguous; changed.
    ///   - branch: up `[out, rank]` and down `[rank, in]`, contiguous; nil: none.
    ///   - codes: `[out, in]` I8, contiguous.
    ///   - scales: `[out, in / 64]` BF16, contiguous.
    public func round(_ residual: Tensor, minus branch: (up: Tensor, down: Tensor)?, codes: Tensor, scales: Tensor) {
        precondition(residual.isContiguous && codes.shape == residual.shape && codes.isContiguous)
        let input = residual.width
        let groups = input / QuantizedWeights.groupSize
        precondition(scales.shape == [residual.rows, groups] && input.isMultiple(of: QuantizedWeights.groupSize))
        forRows("round weights", residual.rows, block: Self.rowBlock) { rows in
            let w = residual.rows(rows)
            if let (up, down) = branch {
                kernels.solver.subtract_product(
                    w.mutable(Float.self), input, up.rows(rows).readable(Float.self), down.readable(Float.self),
                    down.rows, rows.count, input)
            }
            kernels.solver.round_weights(
                w.readable(Float.self), input, rows.count, input, codes.rows(rows).mutable(Int8.self),
                scales.rows(rows).mutable(UInt16.self))
        }
    }

    /// weights -= code · scale; shapes as in `round`.
    public func subtract(codes: Tensor, scales: Tensor, from weights: Tensor) {
        precondition(codes.shape == weights.shape && codes.isContiguous && scales.isContiguous)
        forRows("subtract rounded", weights.rows, block: Self.rowBlock) { rows in
            let w = weights.rows(rows)
            kernels.solver.subtract_rounded(
                w.mutable(Float.self), w.rowStride, codes.rows(rows).readable(Int8.self),
                scales.rows(rows).readable(UInt16.self), rows.count, w.width)
        }
    }

    /// Rounds a block of columns one after the other, from the last to the first, where what the columns before have
    /// lost is made good (GPTQ; Frantar et al., arXiv 2210.17323). See `nibble_feedback` for the arrangement.
    ///
    /// - Parameters:
    ///   - weights: `[out, count]`, at most 256 columns, in the order of the factor; become weight - code · scale.
    ///   - carried: `[out, count]`, contiguous: what is lost in the blocks before, times their part of the factor.
    ///   - factor: `[count, count]`: L[j][i] / L[i][i] below the diagonal, zeros elsewhere; contiguous.
    ///   - divisor: `[count]`: 1 / L[i][i].
    ///   - columns: `[count]` I32: the inputs that they are.
    ///   - codes: `[out, in]` I8, contiguous; those of these columns are written.
    ///   - scales: `[out, in / 64]` BF16, contiguous.
    public func roundWithFeedback(
        _ weights: Tensor, carried: Tensor, factor: Tensor, divisor: Tensor, columns: Tensor, codes: Tensor,
        scales: Tensor
    ) {
        let count = weights.width
        precondition(count.isMultiple(of: 16) && count <= 256 && factor.shape == [count, count])
        precondition(carried.shape == weights.shape && carried.isContiguous && codes.isContiguous)
        forRows("round with feedback", weights.rows, block: Self.rowBlock) { rows in
            let w = weights.rows(rows)
            var feedback = nibble_feedback(
                count: count, factor: factor.readable(Float.self), divisor: divisor.readable(Float.self),
                column: columns.readable(Int32.self))
            kernels.solver.round_with_feedback(
                &feedback, w.mutable(Float.self), w.rowStride, carried.rows(rows).readable(Float.self), rows.count,
                codes.width, codes.rows(rows).mutable(Int8.self), scales.rows(rows).readable(UInt16.self))
        }
    }
}
