internal import CNibbleKernels

/// The order of 4-bit weights that the kernels read, which is the same for every instruction set and every file:
/// `nibble_quantized.h` states each byte. Outputs lie in tiles of 16 that follow each other, so that threads may each
/// bring some of them into order, or out of it.
public enum KernelOrder {
    /// Outputs that lie together.
    public static let tileOutputs = Int(NIBBLE_TILE_OUTPUTS)
    /// What every array starts at a multiple of, in memory and in a file, in bytes.
    public static let alignment = 64

    private static let groupSize = Int(NIBBLE_GROUP)

    /// The tiles that some outputs are in.
    public static func tiles(_ outputs: Int) -> Int { (outputs + tileOutputs - 1) / tileOutputs }

    /// The tiles of rows that begin with one.
    public static func tiles(_ rows: Range<Int>) -> Range<Int> {
        precondition(rows.lowerBound.isMultiple(of: tileOutputs))
        return rows.lowerBound / tileOutputs..<tiles(rows.upperBound)
    }

    /// Packs codes.
    ///
    /// - Parameters:
    ///   - codes: `[out, in]`, I8 of -8...7 or U8 of 0...15; in a multiple of 64.
    ///   - packed: `[⌈out / 16⌉, in / 8, 64]` U8, written.
    public static func pack(codes: Tensor, into packed: Tensor) {
        let (output, input) = (codes.rows, codes.width)
        precondition(codes.isContiguous && input.isMultiple(of: groupSize))
        precondition(packed.dtype == .uint8 && packed.shape == [tiles(output), input / 8, 64])
        nibble_pack_codes(codes.readable(Int8.self), offset(codes.dtype), input, output, packed.mutable(UInt8.self))
    }

    /// Unpacks codes of whole tiles.
    ///
    /// - Parameters:
    ///   - packed: `[out / 16, in / 8, 64]` U8.
    ///   - dtype: I8 for -8...7, U8 for 0...15.
    /// - Returns: `[out, in]`.
    public static func unpack(codes packed: Tensor, as dtype: DType) -> Tensor {
        let (output, input) = (packed.shape[0] * tileOutputs, packed.shape[1] * 8)
        let codes = Tensor(zeros: [output, input], dtype)
        nibble_unpack_codes(packed.readable(UInt8.self), offset(dtype), input, output, codes.mutable(Int8.self))
        return codes
    }

    /// Signed codes lie there 8 higher.
    private static func offset(_ dtype: DType) -> Int32 {
        precondition(dtype == .int8 || dtype == .uint8)
        return dtype == .int8 ? 8 : 0
    }

    /// Packs scales or zeros, `[out, in / 64]` of 16 bits, into `[⌈out / 16⌉, in / 64, 16]`.
    public static func pack(scales: Tensor, into packed: Tensor) {
        let (output, groups) = (scales.rows, scales.width)
        precondition(scales.isContiguous && scales.dtype.byteSize == 2)
        precondition(packed.dtype == scales.dtype && packed.shape == [tiles(output), groups, tileOutputs])
        nibble_pack_scales(
            scales.readable(UInt16.self), groups * groupSize, output, packed.mutable(UInt16.self))
    }

    /// Unpacks scales or zeros of whole tiles: `[out, in / 64]`.
    public static func unpack(scales packed: Tensor) -> Tensor {
        let (output, groups) = (packed.shape[0] * tileOutputs, packed.shape[1])
        let scales = Tensor(zeros: [output, groups], packed.dtype)
        nibble_unpack_scales(packed.readable(UInt16.self), groups * groupSize, output, scales.mutable(UInt16.self))
        return scales
    }

    /// Packs an up-projection, `[out, rank]` of 16 bits, into `[⌈out / 16⌉, padded rank, 16]`.
    public static func pack(up: Tensor, into packed: Tensor) {
        let (output, rank) = (up.rows, up.width)
        precondition(up.isContiguous && up.dtype == packed.dtype && up.dtype.byteSize == 2)
        precondition(packed.shape == [tiles(output), paddedRank(rank), tileOutputs])
        guard rank > 0 else { return }
        nibble_pack_up(up.readable(UInt16.self), output, rank, packed.mutable(UInt16.self))
    }

    /// Unpacks an up-projection of whole tiles: `[out, rank]`.
    public static func unpack(up packed: Tensor) -> Tensor {
        let (output, rank) = (packed.shape[0] * tileOutputs, packed.shape[1])
        let up = Tensor(zeros: [output, rank], packed.dtype)
        nibble_unpack_up(packed.readable(UInt16.self), output, rank, up.mutable(UInt16.self))
        return up
    }

    /// Packs a down-projection, `[rank, in]` of 16 bits, into `[in / 2, padded rank, 2]`.
    public static func pack(down: Tensor, into packed: Tensor) {
        let (rank, input) = (down.rows, down.width)
        precondition(down.isContiguous && down.dtype == packed.dtype && down.dtype.byteSize == 2)
        guard rank > 0 else { return }
        precondition(packed.shape == [input / 2, paddedRank(rank), 2])
        nibble_pack_down(down.readable(UInt16.self), input, rank, packed.mutable(UInt16.self))
    }

    /// Unpacks a down-projection: `[rank, in]`.
    public static func unpack(down packed: Tensor) -> Tensor {
        let (input, rank) = (packed.shape[0] * 2, packed.shape[1])
        let down = Tensor(zeros: [rank, input], packed.dtype)
        nibble_unpack_down(packed.readable(UInt16.self), input, rank, down.mutable(UInt16.self))
        return down
    }

    /// A rank, padded to what the kernels want.
    static func paddedRank(_ rank: Int) -> Int {
        let multiple = Int(NIBBLE_RANK_MULTIPLE)
        return (rank + multiple - 1) / multiple * multiple
    }
}
