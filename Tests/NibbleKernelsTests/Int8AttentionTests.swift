import CNibbleKernels
import Foundation
import Testing

/// Attention in bytes, of each instruction set that has it, against float64 and against plain C.
@Suite struct Int8AttentionTests {
    static let sets = KernelSet.supported.filter { $0.table.attention_int8 != nil }

    /// Around every vector, panel, tile and block: 16 lanes, panels of 64, tiles of 6, blocks of 48 and 256.
    static let counts = [1, 3, 4, 15, 17, 47, 49, 63, 64, 65, 97, 255, 256]
    static let headDims = [1, 3, 4, 8, 13, 64, 72, 128, 130, 512]

    /// Within one block of keys nothing depends on the order of sums but q · mean, which moves all of the block's weights
    /// alike and so none: all instruction sets give the same bytes.
    @Test(arguments: headDims) func `equal bytes within a block of keys`(headDim: Int) {
        for (index, queries) in Self.counts.enumerated() {
            for offset in [0, 3, 7] {
                let keys = Self.counts[(index + offset) % Self.counts.count]
                var test = AttentionCase(queries: queries, keys: keys, headDim: headDim, type: NIBBLE_BF16, spread: 2)
                test.stridePadding = offset
                var expected: [UInt32]?
                for set in Self.sets {
                    guard let (output, intact) = set.attendInBytes(test) else { continue }
                    #expect(intact, "\(set.name) wrote outside of its arrays: \(test.label)")
                    let bits = output.values.map(\.bitPattern)
                    #expect(output.values.allSatisfy { $0.isFinite }, "\(set.name) \(test.label)")
                    expected = expected ?? bits
                    #expect(bits == expected, "\(set.name) \(test.label)")
                }
            }
        }
    }

    /// Weights of several blocks meet in f32. Relative to the largest value they are off by what the exponents M of two
    /// blocks are, twice: headDim u Σ|q mean| scale log2 e, and by 32 u for each block; the output is rounded to bf16, which
    /// may fall to either side.
    @Test(arguments: [5, 64, 128]) func `several blocks of keys`(headDim: Int) {
        for (queries, keys) in [(1, 257), (50, 300), (97, 512), (7, 1100)] {
            let test = AttentionCase(queries: queries, keys: keys, headDim: headDim, type: NIBBLE_BF16, spread: 2)
            guard let plain = KernelSet.plain?.attendInBytes(test)?.output.values else { continue }
            let largest = test.v.map(abs).max() ?? 0
            let product = Double(headDim) * 36 * Double(test.scale) * 1.5
            let relative = Double(headDim) * 0x1p-24 * product * 4 + 32 * 0x1p-24 * Double(keys / 256 + 1)
            for set in Self.sets {
                guard let (output, intact) = set.attendInBytes(test) else { continue }
                #expect(intact, "\(set.name) wrote outside of its arrays: \(test.label)")
                expectClose(
                    output.values, plain.map(Double.init),
                    within: plain.map { relative * Double(largest) + 0x1p-7 * Double(abs($0)) },
                    "\(set.name) \(test.label)")
            }
        }
    }

    struct Distribution: Sendable, CustomTestStringConvertible {
        let name: String
        var spread = 1.0
        var outliers: Float = 0
        var testDescription: String { name }
    }

    static let distributions = [
        Distribution(name: "flat", spread: 0.2), Distribution(name: "usual"), Distribution(name: "peaked", spread: 2),
        Distribution(name: "one key decides", spread: 4), Distribution(name: "channels far from 0", outliers: 8),
    ]

    /// Against float64: the root of the mean square error is what the roundings' variances add up to, within 15 %, since
    /// the keys' roundings are the same for all queries and large errors of scores act through the exponential.
    @Test(arguments: distributions) func accuracy(_ distribution: Distribution) {
        var test = AttentionCase(queries: 60, keys: 700, headDim: 128, type: NIBBLE_BF16, spread: distribution.spread)
        if distribution.outliers > 0 {
            for index in test.k.indices where index % 128 % 16 == 5 { test.k[index] += distribution.outliers }
            test.k = test.round(test.k)
        }
        let reference = Int8AttentionReference(test)
        let expected = reference.variance.reduce(0, +).squareRoot()
        let norm = reference.output.reduce(0) { $0 + $1 * $1 }.squareRoot()
        for set in Self.sets {
            guard let values = set.attendInBytes(test)?.output.values else { continue }
            let squares = zip(values, reference.output).reduce(0) { $0 + pow(Double($1.0) - $1.1, 2) }
            let error = squares.squareRoot()
            #expect(error < 1.15 * expected, "\(set.name)")
            print("\(set.name) \(distribution.name): error \(error / norm), expected \(expected / norm)")
        }
    }

    /// A single key's value comes out as it went in: its code is ±127, and the weight divides itself away.
    @Test func `one key`() {
        let test = AttentionCase(queries: 9, keys: 1, headDim: 24, type: NIBBLE_BF16)
        for set in Self.sets {
            guard let values = set.attendInBytes(test)?.output.values else { continue }
            for query in 0..<9 { #expect(Array(values[query * 24..<query * 24 + 24]) == test.v, "\(set.name)") }
        }
    }

    /// Many small weights beside a large one: rounded to nearest, all of them would vanish.
    @Test func `a tail of small weights counts`() {
        let (headDim, keys) = (64, 256)
        var test = AttentionCase(queries: 1, keys: keys, headDim: headDim, type: NIBBLE_BF16)
        // Scores of 0 but for one key's, which outweighs each of the others 600 times.
        test.q = [Float](repeating: 1, count: headDim)
        test.k = [Float](repeating: 0, count: keys * headDim)
        let score = log(600.0) / Double(test.scale) / Double(headDim)
        for column in 0..<headDim { test.k[100 * headDim + column] = Float(score) }
        test.k = test.round(test.k)
        test.v = (0..<keys * headDim).map { $0 / headDim == 100 ? -1 : 1 }
        let exact = AttentionReference(test).output[0]
        for set in Self.sets {
            guard let value = set.attendInBytes(test)?.output.values[0] else { continue }
            // A dither of 256 steps over 255 keys of 0.4 / 255 is right within a few keys' steps.
            #expect(abs(Double(value) - exact) < 8.0 / 255, "\(set.name): \(value), expected \(exact)")
        }
    }

    /// Norms and rotations done on the way are those of float64, rounded to f32: what follows differs only where a number
    /// lies next to the border of two codes.
    @Test(arguments: [8, 64, 128]) func `norms and rotations`(headDim: Int) {
        for (queries, keys, boundary) in [(50, 70, 20), (3, 300, 0), (64, 64, 64), (7, 9, 1000)] {
            let test = AttentionCase(queries: queries, keys: keys, headDim: headDim, type: NIBBLE_BF16, spread: 3)
            var random = Random(queries)
            let norms = [queries, keys].map {
                HeadNormCase(tokens: $0, headDim: headDim, boundary: boundary, &random)
            }
            var normalized = test
            normalized.q = norms[0].applied(to: test.q, headDim: headDim)
            normalized.k = norms[1].applied(to: test.k, headDim: headDim)
            let reference = Int8AttentionReference(normalized)
            let expected = reference.variance.reduce(0, +).squareRoot()
            for set in Self.sets {
                guard let (output, intact) = set.attendInBytes(test, queryNorm: norms[0], keyNorm: norms[1]) else {
                    continue
                }
                #expect(intact, "\(set.name) wrote outside of its arrays: \(test.label)")
                let squares = zip(output.values, reference.output).reduce(0) { $0 + pow(Double($1.0) - $1.1, 2) }
                // Few queries: their errors are no mean.
                #expect(squares.squareRoot() < 2 * expected, "\(set.name) \(test.label)")
            }
        }
    }

    @Test func `extreme inputs`() {
        var cases: [(name: String, test: AttentionCase)] = []
        var equal = AttentionCase(queries: 70, keys: 300, headDim: 64, type: NIBBLE_BF16)
        equal.k = equal.k.map { _ in 1 }
        equal.v = equal.v.map { _ in 0.5 }
        cases.append(("equal keys and values", equal))
        var zeros = equal
        zeros.q = zeros.q.map { _ in -0.0 }
        cases.append(("no queries", zeros))
        for scale: Float in [1e-30, 1e-3, 1e3, 1e12] {
            var huge = AttentionCase(queries: 70, keys: 300, headDim: 64, type: NIBBLE_BF16)
            huge.q = huge.round(huge.q.map { $0 * scale })
            huge.v = huge.v.map { _ in 0.5 }
            cases.append(("queries times \(scale)", huge))
        }
        for (name, test) in cases {
            for set in Self.sets {
                guard let values = set.attendInBytes(test)?.output.values else { continue }
                #expect(values.allSatisfy { $0 == 0.5 }, "\(set.name) \(name)")
            }
        }
    }

    /// Factors so large that distances are moved up instead of down: the greatest score alone counts.
    @Test func `large factors`() {
        for spread in [30.0, 1000, 1e6] {
            var test = AttentionCase(queries: 40, keys: 200, headDim: 64, type: NIBBLE_BF16, spread: spread)
            test.scale = 1
            var expected: [Float]?
            for set in Self.sets {
                guard let values = set.attendInBytes(test)?.output.values else { continue }
                expected = expected ?? values
                #expect(values == expected && values.allSatisfy { abs($0) < 8 }, "\(set.name) spread \(spread)")
            }
        }
    }

    /// What is not finite in q shows in its query, in k in every query, in v in its channel.
    @Test(arguments: [Float.nan, .infinity, -.infinity]) func `not finite`(value: Float) {
        let clean = AttentionCase(queries: 50, keys: 300, headDim: 20, type: NIBBLE_BF16)
        for set in Self.sets {
            var test = clean
            test.q[7 * 20 + 3] = value
            var values = set.attendInBytes(test)?.output.values ?? []
            for index in values.indices { #expect(values[index].isNaN == (index / 20 == 7), "\(set.name) q \(index)") }
            test = clean
            test.k[290 * 20] = value
            values = set.attendInBytes(test)?.output.values ?? []
            #expect(values.allSatisfy { $0.isNaN }, "\(set.name) k")
            test = clean
            test.v[20 + 5] = value
            values = set.attendInBytes(test)?.output.values ?? []
            for index in values.indices { #expect(values[index].isNaN == (index % 20 == 5), "\(set.name) v \(index)") }
        }
    }

    /// Ranges that start at multiples of the query block give the bytes that one range gives.
    @Test func `split ranges`() {
        let test = AttentionCase(queries: 300, keys: 500, headDim: 40, type: NIBBLE_BF16)
        for set in Self.sets {
            let whole = set.attendInBytes(test)?.output.values.map(\.bitPattern)
            for blocks in [1, 2] {
                let split = set.attendInBytes(test, rangeBlocks: blocks)?.output.values.map(\.bitPattern)
                #expect(split == whole, "\(set.name)")
            }
        }
    }
}
