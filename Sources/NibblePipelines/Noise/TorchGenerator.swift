internal import Foundation
public import NibbleTensors

/// torch's random numbers on a CPU, bit for bit: what `torch.Generator("cpu").manual_seed(seed)` gives to `torch.rand`
/// and `torch.randn` (torch 2.13, x86-64 with AVX2 or AVX-512). Draws continue one sequence, as there.
///
/// Fewer than 16 normal numbers at once go through the C library's double-precision `log1p`, `sin` and `cos`. C libraries
/// may differ in the last of 53 bits, which all but never (some 2^-28 of the draws) reaches the 24 bits that are kept.
///
/// torch takes a negative seed for that seed modulo 2^64: `UInt64(bitPattern: seed)`.
public struct TorchGenerator: Sendable {
    private var words: MersenneTwister
    /// Of a pair made for a short draw, the number that is still to be given out.
    private var secondOfPair: Double?

    /// The generator of a seed. torch's CPU generator looks at the lower 32 bits only.
    public init(seed: UInt64) {
        words = MersenneTwister(seed: UInt32(truncatingIfNeeded: seed))
    }

    /// Raw 32-bit outputs.
    mutating func next(_ count: Int) -> [UInt32] { (0..<count).map { _ in words.next() } }

    /// `torch.rand(count)`: uniform in [0, 1), multiples of 2^-24.
    public mutating func uniform(_ count: Int) -> [Float] {
        filled(count) { generator, values in generator.fillUniform(values) }
    }

    /// `torch.randn(count)`: normal, of mean 0 and variance 1.
    public mutating func normal(_ count: Int) -> [Float] {
        normal(count, uniformsForTheTail: true)
    }

    /// `torch.randn(count, dtype=torch.bfloat16)`. Not `normal(count)` rounded: where the count is no multiple of 16, the
    /// last 16 values are others.
    public mutating func normalBFloat16(_ count: Int) -> [BFloat16] {
        normal(count, uniformsForTheTail: false).map { BFloat16($0) }
    }

    /// Normal numbers before their rounding to the tensor's type.
    ///
    /// - Parameters:
    ///   - count: how many.
    ///   - uniformsForTheTail: whether the values past the last whole group of 16 take uniform numbers from the
    ///     sequence, although they are then replaced. torch's 32-bit code fills the tensor first, its 16-bit code does
    ///     not.
    /// - Returns: the numbers, in 32 bits.
    private mutating func normal(_ count: Int, uniformsForTheTail: Bool) -> [Float] {
        let group = BoxMuller.groupSize
        if count < group { return (0..<count).map { _ in Float(nextNormal()) } }
        return filled(count) { generator, values in
            let whole = count / group * group
            generator.fillUniform(UnsafeMutableBufferPointer(rebasing: values[..<(uniformsForTheTail ? count : whole)]))
            guard let base = values.baseAddress else { return }
            for start in stride(from: 0, to: whole, by: group) { BoxMuller.transform(base + start) }
            if whole < count {
                // The last 16 are drawn anew, over values that were final already.
                generator.fillUniform(UnsafeMutableBufferPointer(rebasing: values[(count - group)...]))
                BoxMuller.transform(base + (count - group))
            }
        }
    }

    /// One normal number in double precision; the Box-Muller transform makes them in pairs.
    private mutating func nextNormal() -> Double {
        if let second = secondOfPair {
            secondOfPair = nil
            return second
        }
        let angle = 2 * Double.pi * nextUniform()
        let radius = (-2 * log1p(-nextUniform())).squareRoot()
        secondOfPair = radius * sin(angle)
        return radius * cos(angle)
    }

    /// Uniform in [0, 1), a multiple of 2^-53 from two words, the high one first.
    private mutating func nextUniform() -> Double {
        let high = UInt64(words.next())
        let bits = (high << 32) | UInt64(words.next())
        return Double(bits & 0x001f_ffff_ffff_ffff) * 0x1p-53
    }

    private mutating func fillUniform(_ values: UnsafeMutableBufferPointer<Float>) {
        for index in values.indices { values[index] = Float(words.next() & 0x00ff_ffff) * 0x1p-24 }
    }

    private mutating func filled(
        _ count: Int, _ fill: (inout TorchGenerator, UnsafeMutableBufferPointer<Float>) -> Void
    ) -> [Float] {
        precondition(count >= 0)
        return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            fill(&self, UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }
}
