internal import CNibbleKernels
internal import CNibbleSystem

/// What is done to each element at the end of a product.
public enum Activation: Sendable, Hashable {
    /// Nothing.
    case identity
    /// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))): "gelu_new", "gelu_pytorch_tanh".
    case geluTanh
    /// 0.5 x (1 + erf(x / √2)): "gelu".
    case gelu
    /// x / (1 + exp(-1.702 x)): CLIP's "quick_gelu".
    case quickGelu

    fileprivate var code: nibble_dnn_activation {
        switch self {
        case .identity: NIBBLE_DNN_IDENTITY
        case .geluTanh: NIBBLE_DNN_GELU_TANH
        case .gelu: NIBBLE_DNN_GELU_ERF
        case .quickGelu: NIBBLE_DNN_QUICK_GELU
        }
    }
}

/// What a compiled product depends on.
struct ProductKey: Hashable {
    let rows, input, output: Int
    let xStride, wStride, yStride: Int
    let operand, result: DType
    let hasBias: Bool
    let activation: Activation
}

/// A product compiled by oneDNN for one shape.
final class CompiledProduct: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer
    let scratchBytes: Int

    init(_ key: ProductKey) {
        var shape = nibble_product_shape(
            rows: key.rows, in: key.input, out: key.output, x_stride: key.xStride, w_stride: key.wStride,
            y_stride: key.yStride, input: key.operand.dnnType, output: key.result.dnnType, has_bias: key.hasBias,
            activation: key.activation.code)
        var handle: OpaquePointer?
        let status = nibble_product_create(&shape, &handle)
        guard let handle, status == 0 else { fatalError("oneDNN refuses the product \(key): status \(status)") }
        self.handle = handle
        scratchBytes = nibble_product_scratch_bytes(handle)
    }

    deinit { nibble_product_destroy(handle) }
}

extension DType {
    var dnnType: nibble_dnn_type {
        switch self {
        case .float32: NIBBLE_DNN_F32
        case .bfloat16: NIBBLE_DNN_BF16
        default: preconditionFailure("\(rawValue) is no type of oneDNN's operands here")
        }
    }
}

/// Whether products of bfloat16 run faster than those of 32-bit floats on this processor.
let hasFastBFloat16Products = nibble_dnn_has_bf16()

extension Compute {
    /// Outputs worked at once by one thread: as large as keeps two threads evenly busy at FLUX's widths, where oneDNN
    /// loses 3 % against one product over all outputs (docs/speed.md).
    private static let outputTile = 384
    /// Rows worked at once by one thread. Smaller tiles would make oneDNN repack the weights more often.
    private static let rowTile = 2304

    /// y = activation(x wᵀ + bias).
    ///
    /// - Parameters:
    ///   - x: `[rows, in]`, f32 or bf16.
    ///   - weight: `[out, in]` of any float type; converted piece by piece where it is not of the operands' type.
    ///   - bias: `[out]` f32.
    ///   - y: `[rows, out]`, f32 or bf16; may be a block of columns of a wider matrix.
    ///   - activation: what is done to each element at the end.
    public func product(
        _ x: Tensor, _ weight: Tensor, bias: Tensor?, into y: Tensor, activation: Activation = .identity
    ) {
        precondition(x.shape.rank == 2 && weight.shape.rank == 2 && x.width == weight.width)
        precondition(y.shape == [x.rows, weight.rows] && (bias.map { $0.elementCount == weight.rows } ?? true))
        if x.rows == 1, activation == .identity, x.dtype == .float32, y.dtype == .float32 {
            return rowProduct(x, weight, bias: bias, into: y)
        }
        let operand: DType = x.dtype == .bfloat16 && hasFastBFloat16Products ? .bfloat16 : .float32
        // oneDNN writes bf16 only from bf16 operands.
        guard x.dtype == operand, y.dtype == .float32 || operand == .bfloat16 else {
            return workspace.scope {
                let wide = workspace.tensor(x.shape, operand)
                convert(x, into: wide)
                let sums = workspace.tensor(y.shape, .float32)
                tiledProduct(wide, weight, bias: bias, into: sums, activation: activation)
                convert(sums, into: y)
            }
        }
        tiledProduct(x, weight, bias: bias, into: y, activation: activation)
    }

    /// One row: reading the weights is all the work, so they are read once, in place, by our own kernel.
    private func rowProduct(_ x: Tensor, _ weight: Tensor, bias: Tensor?, into y: Tensor) {
        forRows("row product", weight.rows, block: 256, multiplyAdds: weight.elementCount) { outputs in
            let weight = weight.rows(outputs)
            kernels.row_product(
                x.readable(Float.self), weight.address, weight.dtype.kernelFloat, weight.rowStride,
                bias.map { $0.readable(Float.self) + outputs.lowerBound },
                y.mutable(Float.self) + outputs.lowerBound, weight.width, outputs.count)
        }
    }

    private func tiledProduct(
        _ x: Tensor, _ weight: Tensor, bias: Tensor?, into y: Tensor, activation: Activation
    ) {
        guard x.rows > 0 else { return }
        // Few outputs make few tiles: then smaller ones of rows share the work.
        let tileRows = weight.rows <= Self.outputTile ? 256 : Self.rowTile
        let rowTiles = (x.rows + tileRows - 1) / tileRows
        let outputTiles = (weight.rows + Self.outputTile - 1) / Self.outputTile
        let mustConvert = weight.dtype != x.dtype
        precondition(!mustConvert || weight.isContiguous)
        workspace.scope {
            let compiled = compileTiles(x, weight, bias: bias, y: y, activation: activation, tileRows: tileRows)
            let scratchBytes = compiled.map(\.scratchBytes).max() ?? 0
            let scratch = workspace.tensor([pool.threadCount, scratchBytes], .uint8)
            let converted = workspace.tensor(
                [mustConvert ? pool.threadCount : 0, Self.outputTile * weight.width], x.dtype)
            run("product", rowTiles * outputTiles, multiplyAdds: x.rows * weight.elementCount) { part, worker in
                let rows = part % rowTiles * tileRows..<min((part % rowTiles + 1) * tileRows, x.rows)
                let outputs =
                    part / rowTiles * Self.outputTile..<min((part / rowTiles + 1) * Self.outputTile, weight.rows)
                var tile = weight.rows(outputs)
                if mustConvert {
                    let target = converted.rows(worker..<worker + 1)
                    kernels.convert(
                        tile.address, tile.dtype.kernelFloat, target.mutableAddress, target.dtype.kernelFloat,
                        tile.elementCount)
                    tile = Tensor(
                        storage: target.storage, byteOffset: target.byteOffset, shape: tile.shape, dtype: target.dtype)
                }
                let x = x.rows(rows)
                let y = y.rows(rows).columns(outputs)
                let which =
                    (rows.count == tileRows || rowTiles == 1 ? 0 : 1)
                    + (outputs.count == Self.outputTile || outputTiles == 1 ? 0 : 2)
                nibble_product_run(
                    compiled[which].handle, x.address, tile.address,
                    bias.map { $0.readable(Float.self) + outputs.lowerBound }, y.mutableAddress,
                    scratch.rows(worker..<worker + 1).mutableAddress)
            }
        }
    }

    /// The products of a full tile, of the last tile of rows, of the last tile of outputs, and of both.
    private func compileTiles(
        _ x: Tensor, _ weight: Tensor, bias: Tensor?, y: Tensor, activation: Activation, tileRows: Int
    ) -> [CompiledProduct] {
        func sizes(_ count: Int, _ tile: Int) -> [Int] {
            count <= tile ? [count, count] : [tile, count % tile == 0 ? tile : count % tile]
        }
        return sizes(weight.rows, Self.outputTile).flatMap { outputs in
            sizes(x.rows, tileRows).map { rows in
                let key = ProductKey(
                    rows: rows, input: x.width, output: outputs, xStride: x.rowStride,
                    wStride: weight.dtype == x.dtype ? weight.rowStride : weight.width, yStride: y.rowStride,
                    operand: x.dtype, result: y.dtype, hasBias: bias != nil, activation: activation)
                if let compiled = products[key] { return compiled }
                let compiled = CompiledProduct(key)
                products[key] = compiled
                return compiled
            }
        }
    }
}
