/// MT19937 in 32 bits: Matsumoto and Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform
/// pseudo-random number generator", ACM TOMACS 8 (1998), with the seeding of their 2002 revision (`init_genrand`).
struct MersenneTwister: Sendable {
    /// Words of state: the paper's n.
    private static let wordCount = 624
    /// The recurrence mixes in the word this far ahead: the paper's m.
    private static let middle = 397

    private var state: [UInt32]
    private var position = wordCount

    /// The generator of a seed.
    init(seed: UInt32) {
        state = [UInt32](unsafeUninitializedCapacity: Self.wordCount) { words, count in
            words[0] = seed
            for index in 1..<Self.wordCount {
                let previous = words[index - 1]
                words[index] = 1_812_433_253 &* (previous ^ (previous >> 30)) &+ UInt32(truncatingIfNeeded: index)
            }
            count = Self.wordCount
        }
    }

    /// The next tempered word.
    mutating func next() -> UInt32 {
        if position == Self.wordCount { twist() }
        var word = state[position]
        position += 1
        word ^= word >> 11
        word ^= (word << 7) & 0x9d2c_5680
        word ^= (word << 15) & 0xefc6_0000
        return word ^ (word >> 18)
    }

    /// Replaces the whole state by the next one.
    private mutating func twist() {
        for index in 0..<Self.wordCount {
            let following = index + 1 < Self.wordCount ? index + 1 : 0
            let ahead =
                index < Self.wordCount - Self.middle ? index + Self.middle : index + Self.middle - Self.wordCount
            let joined = (state[index] & 0x8000_0000) | (state[following] & 0x7fff_ffff)
            state[index] = state[ahead] ^ (joined >> 1) ^ (joined & 1 == 0 ? 0 : 0x9908_b0df)
        }
        position = 0
    }
}
