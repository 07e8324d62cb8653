import Foundation
import NibbleCheckpoints
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleQuantizer

/// Layers that DeepCompressor and a separate implementation of it quantized, method by method.
@Suite(.enabled(if: !GoldenLayers.all.isEmpty, "no svdquant-layers goldens beside the repository"))
struct GoldenLayerTests {
    struct Golden: Sendable, CustomTestStringConvertible {
        let set: GoldenLayers
        let name: String
        let layer: GoldenLayers.Layer
        var testDescription: String { "\(set) \(name)" }
        func load() throws -> GoldenLayerCase { try GoldenLayerCase(set, name, layer) }
    }

    static let all = GoldenLayers.all.flatMap { set in
        set.layers.sorted { $0.key < $1.key }.map { Golden(set: set, name: $0.key, layer: $0.value) }
    }

    private static let keys = [(bits: ActivationBits.int4, key: "w4a4"), (bits: .int8, key: "w4a8")]

    /// The goldens' README asks for at most 1.02 times the greater of two implementations' errors, which differ by about
    /// 1 % themselves.
    @Test(arguments: all) func noMethodErrsMoreThanOthers(_ golden: Golden) throws {
        let test = try golden.load()
        let compute = Compute(precision: .f32)
        var errors: [String: Double] = [:]
        for (method, recipe) in LayerRecipe.methods {
            let bar = try #require(golden.layer.bar[method])
            let result = try LayerQuantizer(recipe.ranked(golden.layer.rank), seed: 1, on: compute)(
                test.group, test.statistics)
            for (bits, key) in Self.keys {
                let error = test.error(of: result.members[0].weights, bits, on: compute)
                #expect(error <= 1.02 * (try #require(bar[key])), "\(method) \(key)")
                if bits == .int4 { errors[method] = error }
            }
        }
        // The paper's order, as far as its ablation gives one (figure 7 and table 3 of arXiv 2411.05007).
        let order = [
            "smooth": ["rtn"], "svd": ["rtn"], "gptq": ["rtn"], "lorc": ["rtn"],
            "svdquant": ["smooth", "svd", "gptq", "lorc"], "svdquant_iters": ["svdquant"],
            "svdquant_gptq": ["svdquant"], "svdquant_iters_gptq": ["svdquant_iters", "svdquant_gptq"],
        ]
        for (better, worse) in order.flatMap({ better, others in others.map { (better, $0) } }) {
            #expect(try #require(errors[better]) < #require(errors[worse]), "\(better) is better than \(worse)")
        }
    }

    /// What is ours is no worse than both implementations' best method, in the activations that it was made for: on the
    /// first three layers it is better by 1.5 to 9 % (docs/quality.md), and other sets get the room that the methods get.
    @Test(arguments: all, keys.map(\.bits)) func fittingOutputsIsNoWorse(_ golden: Golden, _ bits: ActivationBits)
        throws
    {
        let test = try golden.load()
        let compute = Compute(precision: .f32)
        var recipe = LayerRecipe().ranked(golden.layer.rank)
        (recipe.branch, recipe.rounding, recipe.activations) = (.outputs(iterations: 20), .gptq, bits)
        let result = try LayerQuantizer(recipe, seed: 1, on: compute)(test.group, test.statistics)
        let error = test.error(of: result.members[0].weights, bits, on: compute)
        let key = bits == .int4 ? "w4a4" : "w4a8"
        #expect(error <= 1.02 * (try #require(golden.layer.bar["svdquant_iters_gptq"]?[key])))
        // And one fit to the outputs does what all fits to the weights do.
        (recipe.branch, recipe.rounding) = (.outputs(iterations: 1), .nearest)
        let quick = try LayerQuantizer(recipe, seed: 1, on: compute)(test.group, test.statistics)
        let quickError = test.error(of: quick.members[0].weights, bits, on: compute)
        #expect(quickError <= 1.02 * (try #require(golden.layer.bar["svdquant_iters"]?[key])))
    }

    @Test(arguments: all) func naiveCodesAndScalesAreEqual(_ golden: Golden) throws {
        let test = try golden.load()
        var recipe = LayerRecipe()
        (recipe.smoothing, recipe.branch) = (.none, .none)
        let result = try LayerQuantizer(recipe, seed: 1, on: Compute(precision: .f32))(test.group, nil)
        let weights = result.members[0].weights
        #expect(crc32(weights.codes.bytes) == golden.layer.rounding.codes)
        #expect(crc32(weights.scales.bytes) == golden.layer.rounding.scales)
        #expect(result.members[0].error == nil && result.members[0].naiveError == nil)
    }

    /// What the file's makers store for the shift, but for the branch, of which there is none: exact, since both are
    /// float64 sums rounded once through f32.
    @Test(arguments: all) func theShiftIsTakenBack(_ golden: Golden) throws {
        let file = try golden.set.weights(golden.layer)
        guard golden.layer.isUnsigned, file.names.contains("bias_shifted") else { return }
        let test = try golden.load()
        var recipe = LayerRecipe()
        (recipe.smoothing, recipe.branch) = (.none, .none)
        let result = try LayerQuantizer(recipe, seed: 1, on: Compute(precision: .f32))(test.group, nil)
        #expect(result.members[0].weights.bias.floats() == (try file.floats("bias_shifted")))
    }

    /// The goldens' README expects 1e-6; ours are f32 products, summed in pieces of 128, of which the largest are off by
    /// about 1e-7.
    @Test(arguments: all) func singularValuesAreEqual(_ golden: Golden) throws {
        let weights = try golden.set.weights(golden.layer).tensor("W").widened
        let expected = golden.layer.singularValues
        let rank = (expected.count + 15) / 16 * 16
        let found = try TruncatedSVD(
            of: weights, rank: rank, iterations: 60, seed: 3, on: Compute(precision: .f32), Workspace())
        for (found, expected) in zip(found.values, expected) { #expect(abs(found - expected) <= 1e-6 * expected) }
    }

    /// The errors of all candidates lie within 1 % on average, as the goldens' README expects, and each within 4 %: in fc2,
    /// whose inputs have a mean, one output's error is the sum of its rounding errors, and another rounding of factors or
    /// branch, of which each implementation has its own, moves it by up to 3 % in both directions (it does so, too, where
    /// the decomposition has fully converged).
    @Test(arguments: all) func theSearchSeesTheSameErrors(_ golden: Golden) throws {
        let test = try golden.load()
        let grid = try #require(golden.layer.reference.chosen["svdquant"]?.grid)
        var recipe = LayerRecipe().ranked(golden.layer.rank)
        recipe.branch = .weights(iterations: 1)
        let work = try LayerGroupWork(test.group, test.statistics, recipe, seed: 1, on: Compute(precision: .f32))
        let powers = SmoothingFactors.grid(points: (grid.count + 1) / 2)
        let scores = try work.score(powers) { _, _ in }
        #expect(scores.count == grid.count)
        var sum = 0.0
        for (score, expected) in zip(scores, grid) {
            #expect(abs(Double(score.smooth.alpha) - expected[0]) < 1e-6)
            #expect(abs(Double(score.smooth.beta) - expected[1]) < 1e-6)
            let deviation = abs(score.error - expected[2]) / expected[2]
            #expect(deviation <= 0.04, "alpha \(expected[0]) beta \(expected[1])")
            sum += deviation
        }
        #expect(sum <= 0.01 * Double(grid.count))
    }

    /// The errors that a report shows are those that the sample has.
    @Test(arguments: all) func errorsAreOfTheSample(_ golden: Golden) throws {
        let test = try golden.load()
        let compute = Compute(precision: .f32)
        var recipe = LayerRecipe().ranked(golden.layer.rank)
        (recipe.smoothing, recipe.branch) = (.search(points: 4), .weights(iterations: 2))
        let onTest = InputStatistics(
            maxima: test.statistics.maxima, sample: test.testTokens, secondMoment: test.statistics.secondMoment)
        let member = try LayerQuantizer(recipe, seed: 1, on: compute)(test.group, onTest).members[0]
        // Theirs has a reference in f32: sums of 512 products, off by some 1e-6 of errors that are 1e-2 of the outputs.
        let error = test.error(of: member.weights, .int4, on: compute)
        #expect(abs(Double(try #require(member.error)) - error) < 1e-4 * error)
        let naive = try #require(golden.layer.bar["rtn"]?["w4a4"])
        #expect(abs(Double(try #require(member.naiveError)) - naive) < 1e-3 * naive)
    }
}

extension LayerRecipe {
    /// The same of another rank.
    func ranked(_ rank: Int) -> LayerRecipe {
        var recipe = self
        recipe.rank = rank
        return recipe
    }
}

/// zlib's (the polynomial of IEEE 802.3, reflected).
func crc32(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    let table: [UInt32] = (0..<256).map { index in
        var value = UInt32(index)
        for _ in 0..<8 { value = (value >> 1) ^ (value & 1 == 1 ? 0xedb8_8320 : 0) }
        return value
    }
    var sum = ~UInt32(0)
    for byte in bytes {
        let index = Int((sum ^ UInt32(byte)) & 0xff)
        sum = table[index] ^ (sum >> 8)
    }
    return ~sum
}
