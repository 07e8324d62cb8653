internal import NibbleTensors

/// Where Nunchaku's kernels want each number of a W4A4 layer: in the order in which a GPU's matrix fragments read them
/// (mma m16n8k64). The formulas are those of Nunchaku's and DeepCompressor's packers (`backend/nunchaku/utils.py`),
/// written out; both directions of a layout walk the same formula. Words are little-endian.
enum NunchakuLayout {
    /// Rows of a tile of codes; layers have a multiple of it.
    static let tileRows = 128
    /// Inputs that share a scale, and columns of a tile of codes.
    static let groupSize = 64
    /// Rows and columns of a tile of the low-rank pair.
    static let rankTile = 16

    /// Which of the low-rank pair.
    enum Factor {
        /// `[rank, in]`, stored under the shape `[in, rank]`.
        case down
        /// `[out, rank]`, stored under the shape `[out, rank]`.
        case up
    }

    private enum Direction { case pack, unpack }

    // MARK: - Codes

    /// Reads `qweight`.
    ///
    /// - Parameter packed: `[out, in / 2]` I8; out a multiple of 128, in one of 64.
    /// - Returns: the codes, `[out, in]` I8, -8...7.
    static func unpackCodes(_ packed: Tensor) -> Tensor {
        let (rows, columns) = (packed.shape[0], packed.shape[1] * 2)
        let codes = Tensor(zeros: [rows, columns], .int8)
        let (source, target) = (packed.address, codes.mutableAddress)
        forEachWord(rows: rows, columns: columns) { word, first in
            let bits = UInt32(littleEndian: source.loadUnaligned(fromByteOffset: 4 * word, as: UInt32.self))
            let nibbles = spread(bits)
            // 8 x 30 is the upper nibble of a byte: a code's sign fills it, and no byte carries into the next.
            let signed = nibbles | (nibbles & 0x0808_0808_0808_0808) &* 0x1e
            target.storeBytes(of: signed.littleEndian, toByteOffset: first, as: UInt64.self)
        }
        return codes
    }

    /// Makes `qweight`.
    ///
    /// - Parameter codes: `[out, in]` I8, -8...7; out a multiple of 128, in one of 64.
    /// - Returns: `[out, in / 2]` I8.
    static func packCodes(_ codes: Tensor) -> Tensor {
        let (rows, columns) = (codes.shape[0], codes.shape[1])
        let packed = Tensor(zeros: [rows, columns / 2], .int8)
        let (source, target) = (codes.address, packed.mutableAddress)
        forEachWord(rows: rows, columns: columns) { word, first in
            let bytes = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: first, as: UInt64.self))
            target.storeBytes(of: gather(bytes).littleEndian, toByteOffset: 4 * word, as: UInt32.self)
        }
        return packed
    }

    /// Calls the body with each 32-bit word and the place, in `[rows, columns]`, of the first of its eight codes; the
    /// others follow it in the same row, in ascending nibbles.
    @inline(__always)
    private static func forEachWord(rows: Int, columns: Int, _ body: (_ word: Int, _ first: Int) -> Void) {
        precondition(rows.isMultiple(of: tileRows) && columns.isMultiple(of: groupSize))
        var word = 0
        for tileRow in stride(from: 0, to: rows, by: tileRows) {
            for tileColumn in stride(from: 0, to: columns, by: groupSize) {
                for panel in stride(from: tileRow, to: tileRow + tileRows, by: 16) {
                    for row in panel..<panel + 8 {
                        for column in stride(from: tileColumn, to: tileColumn + 32, by: 8) {
                            body(word, row * columns + column)
                            body(word + 1, row * columns + column + 32)
                            body(word + 2, (row + 8) * columns + column)
                            body(word + 3, (row + 8) * columns + column + 32)
                            word += 4
                        }
                    }
                }
            }
        }
    }

    /// The eight nibbles of a word, each in a byte.
    @inline(__always)
    private static func spread(_ word: UInt32) -> UInt64 {
        var bits = UInt64(word)
        bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff
        bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff
        return (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f
    }

    /// The lower nibbles of eight bytes.
    @inline(__always)
    private static func gather(_ bytes: UInt64) -> UInt32 {
        var bits = bytes & 0x0f0f_0f0f_0f0f_0f0f
        bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff
        bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff
        return UInt32(truncatingIfNeeded: bits | bits >> 16)
    }

    // MARK: - Scales and vectors

    /// Reads `wscales`: 16-bit numbers under the shape `[groups, out]`, which is not their order: tiles of 128 rows
    /// come first, then groups.
    ///
    /// - Returns: `[out, groups]`.
    static func unpackScales(_ packed: Tensor) -> Tensor {
        scales(packed, rows: packed.shape[1], groups: packed.shape[0], .unpack, as: [packed.shape[1], packed.shape[0]])
    }

    /// Makes `wscales` of `[out, groups]`.
    static func packScales(_ scales: Tensor) -> Tensor {
        self.scales(
            scales, rows: scales.shape[0], groups: scales.shape[1], .pack, as: [scales.shape[1], scales.shape[0]])
    }

    /// Reads `bias`, `smooth` or `smooth_orig`, a multiple of 128 numbers of 16 bits.
    static func unpackVector(_ packed: Tensor) -> Tensor {
        scales(packed, rows: packed.shape[0], groups: 1, .unpack, as: packed.shape)
    }

    /// Makes `bias`, `smooth` or `smooth_orig`.
    static func packVector(_ vector: Tensor) -> Tensor {
        scales(vector, rows: vector.shape[0], groups: 1, .pack, as: vector.shape)
    }

    private static func scales(
        _ tensor: Tensor, rows: Int, groups: Int, _ direction: Direction, as shape: Shape
    ) -> Tensor {
        precondition(rows.isMultiple(of: tileRows))
        return permuted(tensor, direction, as: shape) { move in
            var stored = 0
            for tileRow in stride(from: 0, to: rows, by: tileRows) {
                for group in 0..<groups {
                    for panel in stride(from: tileRow, to: tileRow + tileRows, by: 16) {
                        // Within 16 rows: 0 1 8 9, 2 3 10 11, 4 5 12 13, 6 7 14 15.
                        for pair in stride(from: panel, to: panel + 8, by: 2) {
                            move(stored, pair * groups + group)
                            move(stored + 1, (pair + 1) * groups + group)
                            move(stored + 2, (pair + 8) * groups + group)
                            move(stored + 3, (pair + 9) * groups + group)
                            stored += 4
                        }
                    }
                }
            }
        }
    }

    // MARK: - Low rank

    /// Reads `lora_down` or `lora_up`: 16-bit numbers in tiles of 16 × 16, tiles of channels outside, of ranks inside.
    ///
    /// - Parameters:
    ///   - packed: `[channels, rank]`, both multiples of 16.
    ///   - factor: which of the pair; channels are inputs for `down`, outputs for `up`.
    /// - Returns: `[rank, in]` or `[out, rank]`.
    static func unpackLowRank(_ packed: Tensor, _ factor: Factor) -> Tensor {
        let (channels, rank) = (packed.shape[0], packed.shape[1])
        return lowRank(
            packed, factor, channels, rank, .unpack, as: factor == .down ? [rank, channels] : [channels, rank])
    }

    /// Makes `lora_down` of `[rank, in]` or `lora_up` of `[out, rank]`.
    static func packLowRank(_ matrix: Tensor, _ factor: Factor) -> Tensor {
        let (channels, rank) =
            factor == .down ? (matrix.shape[1], matrix.shape[0]) : (matrix.shape[0], matrix.shape[1])
        return lowRank(matrix, factor, channels, rank, .pack, as: [channels, rank])
    }

    private static func lowRank(
        _ tensor: Tensor, _ factor: Factor, _ channels: Int, _ rank: Int, _ direction: Direction, as shape: Shape
    ) -> Tensor {
        precondition(channels.isMultiple(of: rankTile) && rank.isMultiple(of: rankTile))
        // The tile's row is the logical matrix's row: a rank of `down`, a channel of `up`.
        let width = factor == .down ? channels : rank
        return permuted(tensor, direction, as: shape) { move in
            var stored = 0
            for channel in stride(from: 0, to: channels, by: rankTile) {
                for component in stride(from: 0, to: rank, by: rankTile) {
                    let corner =
                        factor == .down ? component * width + channel : channel * width + component
                    for row in 0..<8 {
                        for column in stride(from: 0, to: 8, by: 2) {
                            let upper = corner + row * width + column
                            let lower = upper + 8 * width
                            move(stored, upper)
                            move(stored + 1, upper + 1)
                            move(stored + 2, upper + 8)
                            move(stored + 3, upper + 9)
                            move(stored + 4, lower)
                            move(stored + 5, lower + 1)
                            move(stored + 6, lower + 8)
                            move(stored + 7, lower + 9)
                            stored += 8
                        }
                    }
                }
            }
        }
    }

    /// Moves 16-bit numbers between their stored places and their logical ones, as `walk` pairs them.
    @inline(__always)
    private static func permuted(
        _ tensor: Tensor, _ direction: Direction, as shape: Shape,
        _ walk: ((_ stored: Int, _ logical: Int) -> Void) -> Void
    ) -> Tensor {
        precondition(tensor.dtype.byteSize == 2 && tensor.isContiguous)
        let result = Tensor(zeros: shape, tensor.dtype)
        let source = tensor.address.assumingMemoryBound(to: UInt16.self)
        let target = result.mutableAddress.assumingMemoryBound(to: UInt16.self)
        switch direction {
        case .unpack: walk { stored, logical in target[logical] = source[stored] }
        case .pack: walk { stored, logical in target[stored] = source[logical] }
        }
        return result
    }
}
