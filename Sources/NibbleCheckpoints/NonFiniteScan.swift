internal import NibbleTensors

/// Counts of elements that are no numbers to compute with.
public struct NonFiniteCount: Sendable, Equatable {
    /// NaN, of either sign and any payload.
    public var nan = 0
    /// Infinity, of either sign.
    public var infinite = 0

    static func += (left: inout NonFiniteCount, right: NonFiniteCount) {
        left.nan += right.nan
        left.infinite += right.infinite
    }
}

/// Counts NaN and infinity in the bits of floats, several gigabytes a second: nothing is converted.
enum NonFiniteScan {
    /// Elements that are tested before anyone looks for which one it was.
    private static let block = 4096

    /// Whether all elements of a contiguous tensor are finite.
    static func isFinite(_ tensor: Tensor) -> Bool { count(tensor.bytes, tensor.dtype) == NonFiniteCount() }

    /// Counts in elements aligned to their size. Types without NaN have none.
    static func count(_ bytes: UnsafeRawBufferPointer, _ dtype: DType) -> NonFiniteCount {
        switch dtype {
        case .float64: count(bytes, infinity: UInt64(0x7ff0_0000_0000_0000))
        case .float32: count(bytes, infinity: UInt32(0x7f80_0000))
        case .float16: count(bytes, infinity: UInt16(0x7c00))
        case .bfloat16: count(bytes, infinity: UInt16(0x7f80))
        case .float8E5M2: count(bytes, infinity: UInt8(0x7c))
        // OCP FP8: the largest exponent is used for numbers, only all bits set are NaN.
        case .float8E4M3: count(bytes, infinity: nil, firstNaN: UInt8(0x7f))
        case .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .bool: NonFiniteCount()
        }
    }

    private static func count<Word: FixedWidthInteger & UnsignedInteger>(
        _ bytes: UnsafeRawBufferPointer, infinity: Word
    ) -> NonFiniteCount {
        count(bytes, infinity: infinity, firstNaN: infinity + 1)
    }

    /// Without their sign, IEEE bits grow with the value: numbers, then infinity, then NaN.
    @inline(__always)
    private static func count<Word: FixedWidthInteger & UnsignedInteger>(
        _ bytes: UnsafeRawBufferPointer, infinity: Word?, firstNaN: Word
    ) -> NonFiniteCount {
        let words = bytes.bindMemory(to: Word.self)
        let first = infinity ?? firstNaN
        let magnitude = Word.max >> 1
        // Adding this carries into the sign's place exactly where the magnitude is `first` or more.
        let carry = magnitude - first + 1
        var result = NonFiniteCount()
        var start = 0
        while start < words.count {
            let end = min(start + block, words.count)
            var seen: Word = 0
            for index in start..<end { seen |= (words[index] & magnitude) &+ carry }
            if seen > magnitude {
                for index in start..<end where words[index] & magnitude >= first {
                    if words[index] & magnitude >= firstNaN { result.nan += 1 } else { result.infinite += 1 }
                }
            }
            start = end
        }
        return result
    }
}
