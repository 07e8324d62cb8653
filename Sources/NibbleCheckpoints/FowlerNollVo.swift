/// FNV-1a of 64 bits (Fowler, Noll and Vo): tells names and short runs of bytes apart; no protection against intent.
struct FowlerNollVo {
    /// The hash of all bytes so far.
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }
}
