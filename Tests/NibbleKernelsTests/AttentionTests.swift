import CNibbleKernels
import Testing

/// Attention of each instruction set against float64, and against plain C.
@Suite struct AttentionTests {
    /// Around every vector, panel, tile and block: 16 lanes, panels of 64, tiles of 6, blocks of 96 and 256.
    static let counts = [1, 15, 16, 17, 63, 64, 65, 97, 129, 257, 300]
    static let headDims = [8, 12, 13, 16, 64, 72, 128, 512]

    private func check(_ test: AttentionCase, _ label: String = "") {
        let reference = AttentionReference(test)
        var plain: [Double] = []
        for set in KernelSet.supported {
            let (output, intact) = set.attend(test)
            let values = output.values
            #expect(intact, "\(set.name) wrote outside of its arrays: \(test.label)")
            expectClose(values, reference.output, within: reference.bound, "\(set.name) \(test.label) \(label)")
            if set.isa == NIBBLE_ISA_PLAIN {
                plain = values.map(Double.init)
            } else {
                expectClose(
                    values, plain, within: reference.bound.map { 2 * $0 }, "\(set.name), plain \(test.label) \(label)")
            }
        }
    }

    @Test(arguments: headDims, [NIBBLE_F32, NIBBLE_BF16]) func sizes(headDim: Int, type: nibble_float) {
        for (index, queries) in Self.counts.enumerated() {
            for offset in [0, 3, 7] {
                let keys = Self.counts[(index + offset) % Self.counts.count]
                var test = AttentionCase(queries: queries, keys: keys, headDim: headDim, type: type)
                test.stridePadding = offset
                check(test)
            }
        }
    }

    @Test(arguments: headDims, [NIBBLE_F32, NIBBLE_BF16]) func causal(headDim: Int, type: nibble_float) {
        for (queries, keys) in [(1, 1), (16, 16), (17, 17), (77, 77), (300, 300), (40, 20), (20, 40), (1, 300)] {
            var test = AttentionCase(queries: queries, keys: keys, headDim: headDim, type: type)
            test.causal = true
            check(test)
        }
    }

    @Test(arguments: [NIBBLE_F32, NIBBLE_BF16], [false, true]) func toeplitzBias(type: nibble_float, causal: Bool) {
        for (queries, keys) in [(1, 1), (1, 19), (19, 1), (64, 64), (77, 77), (130, 300), (300, 130)] {
            var test = AttentionCase(queries: queries, keys: keys, headDim: 64, type: type)
            var random = Random(queries)
            test.toeplitzBias = random.normal(queries + keys - 1, scale: 3)
            test.causal = causal
            check(test)
        }
    }

    /// A bias may hide keys by minus infinity, whole blocks of them too.
    @Test(arguments: [NIBBLE_F32, NIBBLE_BF16]) func hidingBias(type: nibble_float) {
        var test = AttentionCase(queries: 5, keys: 600, headDim: 16, type: type)
        test.toeplitzBias = (0..<604).map { $0 < 520 ? -Float.infinity : 0 }
        let shown = (0..<5).map { query in (0..<600).filter { test.bias(query, $0) == 0 } }
        for set in KernelSet.supported {
            let values = set.attend(test).output.values
            for query in 0..<5 {
                var visible = AttentionCase(queries: 1, keys: shown[query].count, headDim: 16, type: type)
                visible.q = Array(test.q[query * 16..<query * 16 + 16])
                visible.k = shown[query].flatMap { test.k[$0 * 16..<$0 * 16 + 16] }
                visible.v = shown[query].flatMap { test.v[$0 * 16..<$0 * 16 + 16] }
                let reference = AttentionReference(visible)
                expectClose(
                    Array(values[query * 16..<query * 16 + 16]), reference.output, within: reference.bound,
                    "\(set.name) query \(query)")
            }
        }
    }

    @Test(arguments: [NIBBLE_F32, NIBBLE_BF16]) func extremeInputs(type: nibble_float) {
        // Scores from some -3000 to 3000: all but a few weights are zero.
        check(AttentionCase(queries: 70, keys: 300, headDim: 64, type: type, spread: 30), "large scores")

        var outlier = AttentionCase(queries: 70, keys: 300, headDim: 64, type: type)
        for index in 0..<64 { outlier.k[270 * 64 + index] = outlier.round([1000 * outlier.q[index]])[0] }
        check(outlier, "outlier")

        var equal = AttentionCase(queries: 70, keys: 300, headDim: 64, type: type)
        equal.k = equal.k.map { _ in 1 }
        check(equal, "equal keys")
        equal.v = equal.v.map { _ in 0.5 }
        for set in KernelSet.supported {
            #expect(set.attend(equal).output.values.allSatisfy { abs($0 - 0.5) < 1e-6 }, "\(set.name)")
        }

        var zeros = AttentionCase(queries: 20, keys: 20, headDim: 16, type: type)
        zeros.q = zeros.q.map { _ in -0.0 }
        zeros.k = zeros.k.map { _ in -0.0 }
        check(zeros, "negative zeros")

        var tiny = AttentionCase(queries: 20, keys: 20, headDim: 16, type: type)
        tiny.v = tiny.v.map { _ in 0x1p-130 }
        tiny.q = tiny.q.map { _ in 0x1p-130 }
        check(tiny, "subnormal numbers")

        var negative = AttentionCase(queries: 20, keys: 70, headDim: 16, type: type)
        negative.scale = -2
        check(negative, "negative scale")
    }

    /// A NaN in a key shows in every query that sees it, and in no other.
    @Test(arguments: [NIBBLE_F32, NIBBLE_BF16]) func notANumber(type: nibble_float) {
        var test = AttentionCase(queries: 40, keys: 40, headDim: 16, type: type)
        test.causal = true
        test.k[30 * 16] = .nan
        for set in KernelSet.supported {
            let values = set.attend(test).output.values
            #expect(values[..<(30 * 16)].allSatisfy { $0.isFinite }, "\(set.name)")
            #expect(values[(30 * 16)...].allSatisfy { $0.isNaN }, "\(set.name)")
        }
    }

    /// Ranges that start at multiples of the query block give the bytes that one range gives.
    @Test(arguments: [NIBBLE_F32, NIBBLE_BF16], [false, true]) func splitRanges(type: nibble_float, causal: Bool) {
        var test = AttentionCase(queries: 500, keys: 500, headDim: 40, type: type)
        test.causal = causal
        for set in KernelSet.supported {
            let whole = set.attend(test).output.values.map(\.bitPattern)
            for blocks in [1, 2] {
                #expect(set.attend(test, rangeBlocks: blocks).output.values.map(\.bitPattern) == whole, "\(set.name)")
            }
        }
    }
}
