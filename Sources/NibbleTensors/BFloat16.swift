/// The upper 16 bits of an IEEE binary32, as an element type of tensors. Arithmetic is done in `Float`.
public struct BFloat16: Sendable, Hashable {
    /// Sign, 8 exponent bits, 7 fraction bits.
    public var bitPattern: UInt16

    /// A value of the given bits.
    public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

    /// Rounds to nearest, ties to even; NaN stays NaN.
    public init(_ value: Float) {
        let bits = value.bitPattern
        if value.isNaN {
            // The quiet bit, so that cutting the fraction off cannot make infinity.
            bitPattern = UInt16(truncatingIfNeeded: bits >> 16) | 0x0040
        } else {
            bitPattern = UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) >> 16)
        }
    }
}

extension Float {
    /// The value of a `BFloat16`, exactly.
    public init(_ value: BFloat16) { self.init(bitPattern: UInt32(value.bitPattern) << 16) }

    /// The nearest value that bfloat16 holds.
    public var roundedToBFloat16: Float { Float(BFloat16(self)) }
}
