/// The Box-Muller transform (Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958) in the 32-bit
/// arithmetic of torch's vector code, where logarithm, sine and cosine are the polynomials of the Cephes library
/// (`logf`, `sinf`, `cosf`). Every product and sum is rounded exactly where torch rounds: `addingProduct` rounds once,
/// `*` followed by `+` twice, and Swift never turns the second into the first.
enum BoxMuller {
    /// Values that are made together.
    static let groupSize = 16

    /// 2 pi rounded from double precision: `2 * Float.pi` would be rounded toward zero.
    private static let twoPi = Float(2 * Double.pi)

    /// Replaces 16 uniform numbers of [0, 1) by 16 normal ones. The first eight give the radii, the last eight the
    /// angles; the eight cosines come first.
    static func transform(_ values: UnsafeMutablePointer<Float>) {
        let half = groupSize / 2
        for index in 0..<half {
            let radius = (-2 * logarithm(1 - values[index])).squareRoot()
            let (sine, cosine) = sineAndCosine(twoPi * values[index + half])
            // torch adds the mean here, which is 0: it makes -0 positive.
            values[index] = radius * cosine + 0
            values[index + half] = radius * sine + 0
        }
    }

    /// log(x) for normal x > 0. Here x is at least 2^-24: one less a uniform number.
    private static func logarithm(_ x: Float) -> Float {
        // x = mantissa * 2^exponent with the mantissa in [sqrt(1/2), sqrt(2)).
        let bits = x.bitPattern
        var exponent = Float(Int32(bits >> 23) - 126)
        let fraction = Float(bitPattern: (bits & 0x007f_ffff) | 0x3f00_0000)
        var mantissa = fraction - 1
        if fraction < 0.707_106_781_186_547_524 {
            exponent -= 1
            mantissa += fraction
        }
        let square = mantissa * mantissa
        var sum: Float = 7.037_683_6292e-2
        sum = Float(-1.151_461_0310e-1).addingProduct(sum, mantissa)
        sum = Float(1.167_699_8740e-1).addingProduct(sum, mantissa)
        sum = Float(-1.242_014_0846e-1).addingProduct(sum, mantissa)
        sum = Float(1.424_932_2787e-1).addingProduct(sum, mantissa)
        sum = Float(-1.666_805_7665e-1).addingProduct(sum, mantissa)
        sum = Float(2.000_071_4765e-1).addingProduct(sum, mantissa)
        sum = Float(-2.499_999_3993e-1).addingProduct(sum, mantissa)
        sum = Float(3.333_333_1174e-1).addingProduct(sum, mantissa)
        sum *= mantissa
        // log 2 = 0.693359375 - 2.12194440e-4: the first is exact in few bits, the second is what is left.
        sum = (exponent * -2.121_944_40e-4).addingProduct(sum, square)
        sum = sum.addingProduct(square, -0.5)
        return (mantissa + sum).addingProduct(exponent, 0.693_359_375)
    }

    /// Sine and cosine of an angle in [0, 2 pi].
    private static func sineAndCosine(_ angle: Float) -> (sine: Float, cosine: Float) {
        // The even number of eighth turns that lies nearest.
        let octant = (Int32(angle * 1.273_239_544_735_16) + 1) & ~1
        let turns = Float(octant)
        // pi / 4 in three parts of few bits each, so that the differences are exact.
        var rest = angle.addingProduct(turns, -0.785_156_25)
        rest = rest.addingProduct(turns, -2.418_756_484_985_351_5625e-4)
        rest = rest.addingProduct(turns, -3.774_894_977_445_941_08e-8)

        let square = rest * rest
        var even: Float = 2.443_315_711_809_948e-5
        even = Float(-1.388_731_625_493_765e-3).addingProduct(even, square)
        even = Float(4.166_664_568_298_827e-2).addingProduct(even, square)
        even = (-(square * 0.5)).addingProduct(even * square, square) + 1
        var odd: Float = -1.951_529_5891e-4
        odd = Float(8.332_160_8736e-3).addingProduct(odd, square)
        odd = Float(-1.666_665_4611e-1).addingProduct(odd, square)
        odd = rest.addingProduct(odd * square, rest)

        let (sine, cosine) = octant & 2 == 0 ? (odd, even) : (even, odd)
        return (octant & 4 == 0 ? sine : -sine, ~(octant - 2) & 4 == 0 ? cosine : -cosine)
    }
}
