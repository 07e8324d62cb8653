import Foundation

/// Numbers that are the same in every run: SplitMix64 (G. Steele, D. Lea, C. Flood, 2014).
struct Random {
    private var state: UInt64

    init(_ seed: Int) { state = UInt64(truncatingIfNeeded: seed) }

    mutating func bits() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// In 0..<1.
    mutating func uniform() -> Double { Double(bits() >> 11) * 0x1p-53 }

    /// Normally distributed numbers (Box and Muller).
    mutating func normal(_ count: Int, scale: Double = 1, mean: Double = 0) -> [Float] {
        (0..<count).map { _ in
            let radius = (-2 * log(1 - uniform())).squareRoot()
            return Float(mean + scale * radius * cos(2 * .pi * uniform()))
        }
    }
}
