import Foundation
import NibbleCheckpoints
import NibbleTensors
import Testing

@testable import NibbleQuantizer

/// The entry point, on small layers of its own.
@Suite struct LayerQuantizerTests {
    private static let inputs = 128

    private static func numbers(_ count: Int, seed: UInt64) -> [Float] {
        var random = Numbers(seed: seed)
        return (0..<count).map { _ in Float(random.next()) }
    }

    private static func member(_ name: String, _ outputs: [Int], seed: UInt64, _ dtype: DType = .float32)
        -> LayerGroup.Member
    {
        let compute = Compute(precision: .f32)
        let weights = outputs.enumerated().map { index, rows in
            let values = Tensor(numbers(rows * inputs, seed: seed + UInt64(index)), shape: [rows, inputs])
            guard dtype == .bfloat16 else { return values }
            let narrow = Tensor(zeros: values.shape, dtype)
            compute.convert(values, into: narrow)
            return narrow
        }
        let count = outputs.reduce(0, +)
        return LayerGroup.Member(
            name: name, weights: weights, bias: Tensor(numbers(count, seed: seed + 100), shape: [count]))
    }

    private static func group(unsigned: Bool = false) -> LayerGroup {
        LayerGroup(
            members: [member("first", [64, 32], seed: 1), member("second", [80], seed: 9)],
            inputCodes: unsigned ? .shifted : .signed)
    }

    private static func statistics(unsigned: Bool = false) -> InputStatistics {
        var values = numbers(96 * inputs, seed: 50)
        for index in values.indices {
            if index % inputs == 17 { values[index] *= 40 }
            if unsigned { values[index] = abs(values[index]) - 0.17 }
        }
        return GoldenLayerCase.statistics(
            of: Tensor(values, shape: [96, inputs]), shift: unsigned ? Int4Layer.unsignedShift : 0)
    }

    private static func bytes(_ group: QuantizedGroup) -> [[UInt8]] {
        group.members.flatMap { member in
            let weights = member.weights
            return [
                weights.codes, weights.scales, weights.smooth, weights.originalSmooth, weights.down, weights.up,
                weights.bias,
            ].map { Array($0.bytes) }
        }
    }

    private static func recipe(
        _ branch: LayerRecipe.Branch, _ rounding: LayerRecipe.Rounding = .nearest,
        _ smoothing: LayerRecipe.Smoothing = .search(points: 3)
    ) -> LayerRecipe {
        var recipe = LayerRecipe().ranked(16)
        (recipe.branch, recipe.rounding, recipe.smoothing) = (branch, rounding, smoothing)
        return recipe
    }

    private static let recipes = [
        recipe(.none, .gptq), recipe(.error, .gptq), recipe(.weights(iterations: 3)),
        recipe(.outputs(iterations: 3), .gptq),
    ]

    @Test(arguments: recipes, [false, true]) func threadsChangeNoByte(_ recipe: LayerRecipe, _ unsigned: Bool) throws {
        let results = try [1, 2, 3].map { threads in
            let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: threads))
            return Self.bytes(
                try LayerQuantizer(recipe, seed: 4, on: compute)(
                    Self.group(unsigned: unsigned), Self.statistics(unsigned: unsigned)))
        }
        #expect(results[0] == results[1] && results[0] == results[2])
    }

    @Test(arguments: recipes, [false, true]) func isBetterThanNaive(_ recipe: LayerRecipe, _ unsigned: Bool) throws {
        let result = try LayerQuantizer(recipe, seed: 4, on: Compute(precision: .f32))(
            Self.group(unsigned: unsigned), Self.statistics(unsigned: unsigned))
        #expect(result.members.map(\.name) == ["first", "second"])
        for member in result.members { #expect(try #require(member.error) < #require(member.naiveError)) }
        let first = result.members[0].weights
        #expect(first.smooth.floats() == result.members[1].weights.smooth.floats())
        #expect(first.outputs == 96 && first.inputs == Self.inputs && first.rank == 16)
    }

    /// Rows that lie in one tensor or in several, together or apart, in bf16 or f32, make no difference.
    @Test func theFormOfWeightsMakesNoDifference() throws {
        let compute = Compute(precision: .f32)
        let parts = Self.member("layer", [64, 32], seed: 1, .bfloat16)
        let wide = Tensor(zeros: [96, Self.inputs + 64], .float32)
        compute.convert(parts.weights[0], into: wide.rows(0..<64).columns(0..<Self.inputs))
        compute.convert(parts.weights[1], into: wide.rows(64..<96).columns(0..<Self.inputs))
        let whole = LayerGroup.Member(
            name: "layer", weights: [wide.columns(0..<Self.inputs)], bias: parts.bias)
        let results = try [parts, whole].map { member in
            Self.bytes(
                try LayerQuantizer(Self.recipe(.weights(iterations: 2)), seed: 4, on: compute)(
                    LayerGroup(members: [member], inputCodes: .shifted), Self.statistics(unsigned: true)))
        }
        #expect(results[0] == results[1])
    }

    @Test func worksWithoutInputs() throws {
        let recipe = Self.recipe(.weights(iterations: 100), .nearest, .weightsOnly(beta: 0.5))
        let result = try LayerQuantizer(recipe, seed: 1, on: Compute(precision: .f32))(Self.group(), nil)
        #expect(result.alpha == 0 && result.beta == 0.5)
        #expect(result.members.allSatisfy { $0.error == nil && $0.naiveError == nil })
        // s[k] = 1 / max|W[:, k]|^½ over all members.
        let weights = Self.group().members.flatMap { $0.weights.map { $0.floats() } }
        for (channel, factor) in result.members[0].weights.smooth.floats().enumerated() {
            let largest = weights.joined().enumerated().reduce(Float(0)) {
                $1.offset % Self.inputs == channel ? max($0, abs($1.element)) : $0
            }
            #expect(factor == Float(1 / Double(largest).squareRoot()).roundedToBFloat16)
        }
    }

    /// Weights that 4 bits hold exactly, inputs that bfloat16 does: what is left of the error is that of 8-bit codes,
    /// multiples of a 127th or a 112th of each group's largest. 96 tokens of 64 outputs make either error vary by 1 %.
    @Test func errorsAreThoseOfTheCodesThatTheEngineTakes() throws {
        let weights = Self.numbers(64 * Self.inputs, seed: 3).enumerated().map { index, value in
            index % 64 == 0 ? 7 : min(max((3 * value).rounded(), -7), 7)
        }
        let member = LayerGroup.Member(
            name: "exact", weights: [Tensor(weights, shape: [64, Self.inputs])], bias: Tensor(zeros: [64], .float32))
        let inputs = Tensor(
            Self.numbers(96 * Self.inputs, seed: 50).map(\.roundedToBFloat16), shape: [96, Self.inputs])
        var recipe = Self.recipe(.none, .nearest, .none)
        recipe.activations = .int8
        let errors = try [InputCodes.signed, .signedInPairs].map { codes in
            let group = LayerGroup(members: [member], inputCodes: codes)
            let result = try LayerQuantizer(recipe, seed: 1, on: Compute(precision: .f32))(
                group, GoldenLayerCase.statistics(of: inputs, shift: 0))
            return try #require(result.members[0].error)
        }
        #expect(abs(errors[1] / errors[0] - 127.0 / 112) < 0.05, "\(errors)")
    }

    @Test func constantAndZeroLayersWork() throws {
        let zero = LayerGroup.Member(
            name: "zero", weights: [Tensor(zeros: [64, Self.inputs], .float32)], bias: Tensor(zeros: [64], .float32))
        let nothing = Tensor(zeros: [8, Self.inputs], .float32)
        for recipe in Self.recipes {
            for statistics in [Self.statistics(), GoldenLayerCase.statistics(of: nothing, shift: 0)] {
                let member = try LayerQuantizer(recipe, seed: 1, on: Compute(precision: .f32))(
                    LayerGroup(members: [zero], inputCodes: .signed), statistics
                ).members[0]
                #expect(member.error == 0 && member.naiveError == 0)
                #expect(member.weights.codes.bytes.allSatisfy { $0 == 0 })
                #expect(member.weights.scales.floats().allSatisfy { $0 == 1 })
            }
        }
    }

    @Test func progressIsToldAndMayEndTheWork() throws {
        var steps: [LayerQuantizer.Step] = []
        var quantizer = LayerQuantizer(
            Self.recipe(.weights(iterations: 1), .gptq), seed: 1, on: Compute(precision: .f32))
        quantizer.onStep = { steps.append($0) }
        _ = try quantizer(Self.group(), Self.statistics())
        #expect(
            steps == [.prepared] + (1...5).map { .candidate($0, of: 5) } + [.factorized]
                + (0...1).flatMap { [.iteration(member: $0, 1), .rounded(member: $0)] })
        quantizer.onStep = { _ in throw CancellationError() }
        #expect(throws: CancellationError.self) { try quantizer(Self.group(), Self.statistics()) }
    }
}

/// What cannot be quantized.
extension LayerQuantizerTests {
    private func error(_ group: LayerGroup, _ statistics: InputStatistics?, _ recipe: LayerRecipe = recipes[3])
        -> LayerError?
    {
        do {
            _ = try LayerQuantizer(recipe, seed: 1, on: Compute(precision: .f32))(group, statistics)
            return nil
        } catch {
            return error as? LayerError
        }
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity]) func whatIsNotFiniteIsNamed(_ bad: Float) {
        func spoiled(_ tensor: Tensor) -> Tensor {
            var values = tensor.floats()
            values[values.count / 2] = bad
            return Tensor(values, shape: tensor.shape)
        }
        let (group, good) = (Self.group(), Self.statistics())
        let second = group.members[1]
        let badWeight = LayerGroup.Member(name: "second", weights: [spoiled(second.weights[0])], bias: second.bias)
        let badBias = LayerGroup.Member(name: "second", weights: second.weights, bias: spoiled(second.bias))
        for (member, what) in [(badWeight, "its weights"), (badBias, "its bias")] {
            let group = LayerGroup(members: [group.members[0], member], inputCodes: .signed)
            #expect(error(group, good) == .notFinite(layer: "second", what: what))
        }
        for statistics in [
            InputStatistics(maxima: spoiled(good.maxima), sample: good.sample, secondMoment: good.secondMoment),
            InputStatistics(maxima: good.maxima, sample: spoiled(good.sample), secondMoment: good.secondMoment),
            InputStatistics(maxima: good.maxima, sample: good.sample, secondMoment: good.secondMoment.map(spoiled)),
        ] {
            guard case .notFinite(layer: "first", _) = error(group, statistics) else {
                Issue.record("inputs with \(bad) were taken")
                continue
            }
        }
    }

    @Test func whatDoesNotFitIsNamed() {
        let (group, good) = (Self.group(), Self.statistics())
        func isWrongShape(_ error: LayerError?) -> Bool { if case .wrongShape = error { true } else { false } }
        let narrow = LayerGroup.Member(
            name: "narrow", weights: [Tensor(zeros: [16, 96], .float32)], bias: Tensor(zeros: [16], .float32))
        #expect(isWrongShape(error(LayerGroup(members: [narrow], inputCodes: .signed), nil)))
        #expect(isWrongShape(error(LayerGroup(members: [group.members[0], narrow], inputCodes: .signed), good)))
        let integers = LayerGroup.Member(
            name: "integers", weights: [Tensor(zeros: [16, 128], .int8)], bias: Tensor(zeros: [16], .float32))
        #expect(isWrongShape(error(LayerGroup(members: [integers], inputCodes: .signed), good)))
        let empty = InputStatistics(
            maxima: good.maxima, sample: Tensor(zeros: [0, Self.inputs], .float32), secondMoment: good.secondMoment)
        let other = InputStatistics(
            maxima: good.maxima, sample: Tensor(zeros: [4, 64], .float32), secondMoment: good.secondMoment)
        for statistics in [empty, other] { #expect(isWrongShape(error(group, statistics))) }
        for rank in [-16, 8, 2048] { #expect(isWrongShape(error(group, good, Self.recipes[0].ranked(rank)))) }
    }

    @Test func whatNeedsInputsSaysSo() {
        func needsInputs(_ error: LayerError?) -> Bool { if case .inputsNeeded = error { true } else { false } }
        let group = Self.group()
        #expect(needsInputs(error(group, nil, Self.recipe(.none))))
        #expect(needsInputs(error(group, nil, Self.recipe(.none, .gptq, .none))))
        let good = Self.statistics()
        let withoutMoment = InputStatistics(maxima: good.maxima, sample: good.sample, secondMoment: nil)
        #expect(needsInputs(error(group, withoutMoment, Self.recipe(.none, .gptq))))
        #expect(error(group, withoutMoment, Self.recipe(.outputs(iterations: 2))) == nil)
    }
}
