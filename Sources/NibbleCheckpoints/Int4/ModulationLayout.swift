internal import NibbleTensors

/// Where Nunchaku's W4A16 kernel (TinyChat's AWQ matrix-vector product) wants the numbers of a modulation layer. Its rows
/// are interleaved: the layer's outputs are `splits` vectors (shift, scale, gate, …), and output `c` of vector `s` is
/// stored as row `c · splits + s`. Scales, zeros and bias are plain, but for that order.
enum ModulationLayout {
    /// Inputs that share a scale and a zero.
    static let groupSize = 64
    /// Rows that are packed together.
    static let rowBlock = 4

    /// Rows of the stored scales and zeros: the groups, rounded up to 16; the rest is zero.
    static func storedGroups(inputs: Int) -> Int { (inputs / groupSize + 15) / 16 * 16 }

    /// Reads `qweight`.
    ///
    /// - Parameters:
    ///   - packed: `[out / 4, in / 2]` I32; in a multiple of 64.
    ///   - splits: vectors that the outputs are made of.
    ///   - pool: the threads that do it; nil: this one.
    /// - Returns: the codes in original order, `[out, in]` U8, 0...15.
    static func unpackCodes(_ packed: Tensor, splits: Int, on pool: ThreadPool? = nil) -> Tensor {
        let (rows, columns) = (packed.shape[0] * rowBlock, packed.shape[1] * 2)
        let codes = Tensor(zeros: [rows, columns], .uint8)
        forEachHalfGroup(rows: rows, columns: columns, splits: splits, on: pool) { word, first in
            let (source, target) = (packed.address, codes.mutableAddress)
            let low = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 2 * word, as: UInt64.self))
            let high = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 2 * word + 8, as: UInt64.self))
            for nibble in 0..<4 {
                let bytes = narrow(low >> (4 * UInt64(nibble))) | narrow(high >> (4 * UInt64(nibble))) << 32
                target.storeBytes(of: bytes.littleEndian, toByteOffset: first + 8 * nibble, as: UInt64.self)
            }
        }
        return codes
    }

    /// Makes `qweight` of codes in original order, `[out, in]` U8, 0...15; out a multiple of 4 and of `splits`, in one of
    /// 64.
    static func packCodes(_ codes: Tensor, splits: Int, on pool: ThreadPool? = nil) -> Tensor {
        let (rows, columns) = (codes.shape[0], codes.shape[1])
        let packed = Tensor(zeros: [rows / rowBlock, columns / 2], .int32)
        forEachHalfGroup(rows: rows, columns: columns, splits: splits, on: pool) { word, first in
            let (source, target) = (codes.address, packed.mutableAddress)
            var (low, high): (UInt64, UInt64) = (0, 0)
            for nibble in 0..<4 {
                let bytes = UInt64(
                    littleEndian: source.loadUnaligned(fromByteOffset: first + 8 * nibble, as: UInt64.self))
                low |= widen(bytes & 0xffff_ffff) << (4 * UInt64(nibble))
                high |= widen(bytes >> 32) << (4 * UInt64(nibble))
            }
            target.storeBytes(of: low.littleEndian, toByteOffset: 2 * word, as: UInt64.self)
            target.storeBytes(of: high.littleEndian, toByteOffset: 2 * word + 8, as: UInt64.self)
        }
        return packed
    }

    /// The lowest nibbles of four 16-bit words, each in a byte.
    @inline(__always)
    private static func narrow(_ words: UInt64) -> UInt64 {
        var bits = words & 0x000f_000f_000f_000f
        bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff
        return (bits | bits >> 16) & 0xffff_ffff
    }

    /// The lower nibbles of four bytes, each in a 16-bit word.
    @inline(__always)
    private static func widen(_ bytes: UInt64) -> UInt64 {
        var bits = (bytes | bytes << 16) & 0x0000_ffff_0000_ffff
        bits = bits | bits << 8
        return bits & 0x000f_000f_000f_000f
    }

    /// Calls the body for each 32 codes of a row: with the first of the eight 16-bit words that hold them and the place
    /// of the first code in `[rows, columns]`, original order. Nibble `i` of word `j` is code `8 i + j`.
    @inline(__always)
    private static func forEachHalfGroup(
        rows: Int, columns: Int, splits: Int, on pool: ThreadPool?,
        _ body: @escaping @Sendable (_ word: Int, _ first: Int) -> Void
    ) {
        precondition(rows.isMultiple(of: rowBlock) && columns.isMultiple(of: groupSize) && rows.isMultiple(of: splits))
        forParts(of: rows, size: 32 * rowBlock, on: pool) { part in
            for block in stride(from: part.lowerBound, to: part.upperBound, by: rowBlock) {
                for row in 0..<rowBlock {
                    let first = originalRow(block + row, rows: rows, splits: splits) * columns
                    for group in stride(from: 0, to: columns, by: groupSize) {
                        let word = block / rowBlock * columns + group + 16 * row
                        body(word, first + group)
                        body(word + 8, first + group + 32)
                    }
                }
            }
        }
    }

    /// The original place of a stored row.
    @inline(__always)
    static func originalRow(_ stored: Int, rows: Int, splits: Int) -> Int {
        stored % splits * (rows / splits) + stored / splits
    }

    /// Reads `wscales` or `wzeros`.
    ///
    /// - Parameters:
    ///   - stored: `[storedGroups, out]`, 16-bit.
    ///   - groups: how many groups there are.
    ///   - splits: vectors that the outputs are made of.
    /// - Returns: `[out, groups]` in original order.
    static func unpackScales(_ stored: Tensor, groups: Int, splits: Int) -> Tensor {
        let rows = stored.shape[1]
        let result = Tensor(zeros: [rows, groups], stored.dtype)
        let source = stored.address.assumingMemoryBound(to: UInt16.self)
        let target = result.mutableAddress.assumingMemoryBound(to: UInt16.self)
        for row in 0..<rows {
            let original = originalRow(row, rows: rows, splits: splits)
            for group in 0..<groups { target[original * groups + group] = source[group * rows + row] }
        }
        return result
    }

    /// Makes `wscales` or `wzeros` of `[out, groups]` in original order.
    static func packScales(_ scales: Tensor, splits: Int) -> Tensor {
        let (rows, groups) = (scales.shape[0], scales.shape[1])
        let result = Tensor(zeros: [storedGroups(inputs: groups * groupSize), rows], scales.dtype)
        let source = scales.address.assumingMemoryBound(to: UInt16.self)
        let target = result.mutableAddress.assumingMemoryBound(to: UInt16.self)
        for row in 0..<rows {
            let original = originalRow(row, rows: rows, splits: splits)
            for group in 0..<groups { target[group * rows + row] = source[original * groups + group] }
        }
        return result
    }
}
