internal import Foundation
internal import NibbleTensors

/// Random numbers that follow from a seed and their place alone, so that threads may share them out.
struct RandomNumbers: Sendable {
    private let seed: UInt64

    /// The numbers of a tensor.
    ///
    /// - Parameters:
    ///   - name: the tensor's.
    ///   - seed: the model's.
    init(_ name: String, seed: UInt64) {
        var hash = FowlerNollVo()
        hash.add(name.utf8)
        self.seed = Self.mixed(hash.value &+ Self.mixed(seed))
    }

    /// 64 random bits: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose state is a counter.
    @inline(__always)
    private static func mixed(_ state: UInt64) -> UInt64 {
        var bits = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
        return bits ^ (bits >> 31)
    }

    @inline(__always)
    private func bits(_ index: Int) -> UInt64 {
        Self.mixed(seed &+ UInt64(truncatingIfNeeded: index) &* 0x9e37_79b9_7f4a_7c15)
    }

    /// Elements that a thread makes at a time: some tenth of a millisecond's work. Below, sharing out costs more than it
    /// saves.
    private static let pieceCount = 1 << 18

    private static func forPieces(
        of count: Int, on pool: ThreadPool?, _ body: @escaping @Sendable (Range<Int>) -> Void
    ) {
        guard let pool, count > pieceCount else { return body(0..<count) }
        pool.run((count + pieceCount - 1) / pieceCount) { piece, _ in
            body(piece * pieceCount..<min((piece + 1) * pieceCount, count))
        }
    }
}

// MARK: - Normal numbers

extension RandomNumbers {
    /// The middles of 4096 equal shares of the normal distribution: its quantiles of (i + 1/2) / 4096. 12 random bits
    /// choose one: as fast as memory is, where a transformation of uniform numbers is 20 times slower.
    private static let quantiles: [Float] = {
        let half = (0..<2048).map { index in
            let share = (Double(index) + 0.5) / 4096
            // P(X > x) = erfc(x / √2) / 2 falls as x rises; 53 halvings leave nothing to find.
            var (low, high) = (0.0, 8.0)
            for _ in 0..<53 {
                let middle = (low + high) / 2
                if erfc(middle / 2.0.squareRoot()) / 2 > share { low = middle } else { high = middle }
            }
            return Float(low)
        }
        return half.map { -$0 } + half.reversed()
    }()

    /// Fills a contiguous tensor with normal numbers.
    ///
    /// - Parameters:
    ///   - tensor: F32 or BF16.
    ///   - mean: of the numbers.
    ///   - deviation: the standard one.
    ///   - pool: the threads that do it; nil: this one.
    func fill(_ tensor: Tensor, mean: Float = 0, deviation: Float, on pool: ThreadPool? = nil) {
        precondition(tensor.isContiguous)
        let values = deviation == 0 ? [] : Self.quantiles.map { mean + deviation * $0 }
        switch tensor.dtype {
        case .float32: fill(tensor, mean, values, on: pool)
        case .bfloat16: fill(tensor, BFloat16(mean), values.map { BFloat16($0) }, on: pool)
        default: preconditionFailure("random numbers are F32 or BF16")
        }
    }

    /// Takes each element from a table of 4096 values; where that is empty, all are the mean.
    private func fill<Element: Sendable>(_ tensor: Tensor, _ mean: Element, _ table: [Element], on pool: ThreadPool?) {
        Self.forPieces(of: tensor.elementCount, on: pool) { range in
            let target = tensor.mutableAddress.assumingMemoryBound(to: Element.self)
            guard !table.isEmpty else {
                for index in range { target[index] = mean }
                return
            }
            table.withUnsafeBufferPointer { table in
                var index = range.lowerBound
                // A piece begins with whole 64 bits; only the last one may end otherwise.
                while index + 4 <= range.upperBound {
                    let bits = bits(index / 4)
                    target[index] = table[Int(bits & 4095)]
                    target[index + 1] = table[Int(bits >> 16 & 4095)]
                    target[index + 2] = table[Int(bits >> 32 & 4095)]
                    target[index + 3] = table[Int(bits >> 48 & 4095)]
                    index += 4
                }
                for rest in index..<range.upperBound {
                    target[rest] = table[Int(bits(rest / 4) >> (UInt64(rest % 4) * 16) & 4095)]
                }
            }
        }
    }
}

// MARK: - 4-bit codes

extension RandomNumbers {
    /// The standard deviation of the codes: -7...7, of which 0 comes twice as often as any other.
    static let codeDeviation = Float(17.5).squareRoot()

    /// Fills a contiguous tensor with codes around 0 or, of U8, around 8. Their mean is exactly that: inputs behind a GELU
    /// have a mean of their own, and a mean of the weights would add up over thousands of them.
    ///
    /// - Parameters:
    ///   - codes: I8 or U8, rows of a multiple of 16.
    ///   - place: of the first code in the layer's, a multiple of 16.
    ///   - pool: the threads that do it; nil: this one.
    func fill(codes: Tensor, from place: Int = 0, on pool: ThreadPool? = nil) {
        precondition(codes.isContiguous && codes.elementCount.isMultiple(of: 16) && place.isMultiple(of: 16))
        let isSigned = codes.dtype == .int8
        Self.forPieces(of: codes.elementCount, on: pool) { range in
            let target = codes.mutableAddress
            for index in stride(from: range.lowerBound, to: range.upperBound, by: 16) {
                let nibbles = Self.withoutLeast(bits((place + index) / 16))
                for (half, shift) in [(0, 0), (8, 4)] as [(Int, UInt64)] {
                    var bytes = nibbles >> shift & 0x0f0f_0f0f_0f0f_0f0f
                    // A byte's upper bit keeps the subtraction from borrowing of the next.
                    if isSigned {
                        bytes = ((bytes | 0x8080_8080_8080_8080) &- 0x0808_0808_0808_0808) ^ 0x8080_8080_8080_8080
                    }
                    target.storeBytes(of: bytes.littleEndian, toByteOffset: index + half, as: UInt64.self)
                }
            }
        }
    }

    /// Sixteen nibbles in which 8 stands in the place of 0.
    @inline(__always)
    private static func withoutLeast(_ nibbles: UInt64) -> UInt64 {
        var used = nibbles | (nibbles >> 1 & 0x7777_7777_7777_7777)
        used |= used >> 2 & 0x3333_3333_3333_3333
        return nibbles | (~used & 0x1111_1111_1111_1111) << 3
    }
}
