import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Random 4-bit layers: usable numbers of the size that a network keeps its activations with.
@Suite struct RandomInt4WeightsTests {
    private static let checkpoint = RandomInt4Weights(
        doubleBlocks: 1, singleBlocks: 1, heads: 4, headDim: 64, rank: 16)

    @Test func everyNumberCanBeComputedWith() throws {
        let pool = ThreadPool(threadCount: 2)
        var layers = 0
        try Self.checkpoint.verifyLayers(on: pool) { _, _ in layers += 1 }
        // A double block has two modulations and twice four layers, a single one a modulation and four.
        #expect(layers == 15 && Self.checkpoint.layers.count == 15)
    }

    /// Codes times scale have the variance 1/in. The scale's rounding to bfloat16 adds up to one part in 128; the numbers' own
    /// spread is far smaller: 4 % is enough.
    @Test func weightsHaveTheVarianceOfALayerThatBegins() throws {
        let layer = try #require(Self.checkpoint.layers.first { $0.name.hasSuffix(".mlp_fc1") })
        let weights = try Self.checkpoint.weights(layer, rows: nil)
        let scale = try #require(weights.scales.floats().first)
        let codes = weights.codes.floats()
        #expect(Set(codes) == Set(stride(from: -7, through: 7, by: 1)))
        let variance = codes.reduce(0) { $0 + Double($1 * scale) * Double($1 * scale) } / Double(codes.count)
        #expect(abs(variance * Double(layer.inputs) - 1) < 0.04, "\(variance)")
        // Five standard errors of the mean.
        let mean = codes.reduce(0) { $0 + Double($1) } / Double(codes.count)
        #expect(abs(mean) < 5 * 4.2 / Double(codes.count).squareRoot(), "\(mean)")
    }

    @Test func modulationsHaveNoMean() throws {
        let layer = try #require(Self.checkpoint.layers.first { $0.name.hasSuffix(".norm.linear") })
        let alone = try Self.checkpoint.modulation(layer, on: nil)
        let codes = alone.codes.floats()
        #expect(Set(codes) == Set(stride(from: 1, through: 15, by: 1)))
        // The zero is 8 scales below 0, so that a code of 8 is a weight of 0.
        let (scale, zero) = (alone.scales.floats()[0], alone.zeros.floats()[0])
        #expect(abs(8 * scale + zero) <= 0.01 * abs(zero))
        let shared = try Self.checkpoint.modulation(layer, on: ThreadPool(threadCount: 3))
        #expect(alone.codes.copiedBytes == shared.codes.copiedBytes)
    }

    @Test func piecesAreThoseOfTheWhole() throws {
        let layer = try #require(Self.checkpoint.layers.first { $0.name.hasSuffix(".qkv_proj") })
        let whole = try Self.checkpoint.weights(layer, rows: nil)
        let rows = 128..<384
        let part = try Self.checkpoint.weights(layer, rows: rows)
        for (found, all) in [
            (part.codes, whole.codes), (part.scales, whole.scales), (part.up, whole.up), (part.bias, whole.bias),
        ] { #expect(found.floats() == all.rows(rows).floats()) }
    }

    @Test func modulationsScaleByAboutOne() throws {
        let layer = try #require(Self.checkpoint.layers.first { $0.name.hasSuffix(".norm.linear") })
        let weights = try Self.checkpoint.modulation(layer, on: nil)
        let hidden = layer.outputs / 3
        let stored = weights.bias.floats()
        #expect(stored[hidden..<2 * hidden].allSatisfy { $0 == 1 } && stored[..<hidden].allSatisfy { $0 == 0 })
        #expect(weights.originalBias().allSatisfy { $0 == 0 })
    }
}
