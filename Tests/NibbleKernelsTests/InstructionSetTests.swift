import CNibbleKernels
import Testing

/// Which instruction sets the other suites ran on: one that is missing here is reported as skipped.
@Suite struct InstructionSetTests {
    static func has(_ isa: nibble_isa) -> Bool { nibble_isa_supported(isa) }

    private func expectTable(_ isa: nibble_isa, name: String) throws {
        let set = try #require(KernelSet(isa))
        #expect(set.table.isa == isa)
        #expect(set.name == name)
    }

    @Test func plain() throws { try expectTable(NIBBLE_ISA_PLAIN, name: "plain") }

    @Test(.enabled(if: has(NIBBLE_ISA_NEON), "no Arm processor; Scripts/test-neon tests these kernels in an emulator"))
    func neon() throws { try expectTable(NIBBLE_ISA_NEON, name: "neon") }

    @Test(.enabled(if: has(NIBBLE_ISA_NEONDOT), "no Arm processor with dot products; see Scripts/test-neon"))
    func neondot() throws { try expectTable(NIBBLE_ISA_NEONDOT, name: "neondot") }

    @Test(.enabled(if: has(NIBBLE_ISA_NEONI8MM), "no Arm processor with matrix products; see Scripts/test-neon"))
    func neoni8mm() throws { try expectTable(NIBBLE_ISA_NEONI8MM, name: "neoni8mm") }

    @Test(.enabled(if: has(NIBBLE_ISA_AVX2), "this processor has no AVX2: its kernels are not tested here"))
    func avx2() throws { try expectTable(NIBBLE_ISA_AVX2, name: "avx2") }

    @Test(.enabled(if: has(NIBBLE_ISA_AVXVNNI), "this processor has no AVX-VNNI: its kernels are not tested here"))
    func avxvnni() throws { try expectTable(NIBBLE_ISA_AVXVNNI, name: "avxvnni") }

    @Test(.enabled(if: has(NIBBLE_ISA_AVX512), "this processor has no AVX-512: its kernels are not tested here"))
    func avx512() throws { try expectTable(NIBBLE_ISA_AVX512, name: "avx512") }

    @Test(
        .enabled(if: has(NIBBLE_ISA_AVX512BF16), "this processor has no AVX-512 BF16: its kernels are not tested here"))
    func avx512bf16() throws { try expectTable(NIBBLE_ISA_AVX512BF16, name: "avx512bf16") }

    /// How many multiply-adds an iteration does is known; 0 means that the set has no such instruction.
    @Test(arguments: KernelSet.supported) func limits(_ set: KernelSet) {
        for limit in [NIBBLE_LIMIT_INT8, NIBBLE_LIMIT_BF16, NIBBLE_LIMIT_F32] {
            let once = nibble_run_limit(set.isa, limit, 1)
            #expect(nibble_run_limit(set.isa, limit, 1000) == 1000 * once)
            #expect(nibble_run_limit(set.isa, limit, 0) == 0)
            if limit == NIBBLE_LIMIT_F32 { #expect(once > 0) }
            if limit == NIBBLE_LIMIT_BF16 { #expect((once > 0) == (set.isa == NIBBLE_ISA_AVX512BF16)) }
        }
    }
}
