import Foundation
import NibbleTensors
import Testing

@testable import NibbleQuantizer

/// GPTQ against its textbook form in float64: the inverse of the second moment, its upper Cholesky factor, one column at
/// a time (Frantar et al., arXiv 2210.17323, algorithm 1).
@Suite struct SecondMomentFactorTests {
    private struct Problem {
        let weights: Tensor
        let moment: Tensor
        let smooth: [Float]
        let codes: Tensor
        let scales: Tensor

        /// More inputs than one block and no multiple of it; some are always zero.
        init(inputs: Int = 320, outputs: Int = 70, tokens: Int = 900, dead: Set<Int> = [5, 200]) {
            var random = Numbers(seed: 17)
            weights = Tensor((0..<outputs * inputs).map { _ in Float(random.next()) }, shape: [outputs, inputs])
            let common = (0..<tokens).map { _ in random.next() }
            let values = (0..<tokens * inputs).map { index in
                let (token, channel) = (index / inputs, index % inputs)
                let strength = 0.2 + Double(channel % 11)
                return dead.contains(channel) ? 0 : Float(strength * (random.next() + 0.5 * common[token]))
            }
            let tensor = Tensor(values, shape: [tokens, inputs])
            moment = GoldenLayerCase.statistics(of: tensor, shift: 0).secondMoment ?? tensor
            smooth = (0..<inputs).map { 1 + Float($0 % 3) / 2 }
            codes = Tensor(zeros: weights.shape, .int8)
            scales = Tensor(zeros: [outputs, inputs / 64], .bfloat16)
        }
    }

    private static func integers(_ codes: Tensor) -> [Int8] { Array(codes.bytes.bindMemory(to: Int8.self)) }

    private static func textbook(_ problem: Problem) throws -> [Int8] {
        let count = problem.smooth.count
        let moment = problem.moment.floats()
        var matrix = (0..<count * count).map {
            Double(moment[$0]) / Double(problem.smooth[$0 / count]) / Double(problem.smooth[$0 % count])
        }
        var dead: Set<Int> = []
        for index in 0..<count where matrix[index * count + index] == 0 {
            matrix[index * count + index] = 1
            dead.insert(index)
        }
        let order = (0..<count).sorted { (-matrix[$0 * count + $0], -$0) < (-matrix[$1 * count + $1], -$1) }
        let mean = (0..<count).reduce(0) { $0 + matrix[$1 * count + $1] } / Double(count)
        var permuted = (0..<count * count).map { matrix[order[$0 / count] * count + order[$0 % count]] }
        for index in 0..<count { permuted[index * count + index] += 0.01 * mean }
        let inverse = try #require(SmallMatrices.choleskyAndInverse(&permuted, count))
        // H⁻¹ = L⁻ᵀ L⁻¹; its lower factor, transposed, is the upper one.
        var product = [Double](repeating: 0, count: count * count)
        for row in 0..<count {
            for column in 0...row {
                for term in row..<count {
                    product[row * count + column] += inverse[term * count + row] * inverse[term * count + column]
                }
            }
        }
        _ = try #require(SmallMatrices.choleskyAndInverse(&product, count))
        let (weights, scales) = (problem.weights.floats(), problem.scales.floats())
        var codes = [Int8](repeating: 0, count: weights.count)
        for row in 0..<problem.weights.rows {
            var line = order.map { dead.contains($0) ? 0 : Double(weights[row * count + $0]) }
            for index in 0..<count {
                let scale = Double(scales[row * (count / 64) + order[index] / 64])
                let code = max(-7, min(7, (line[index] / scale).rounded(.toNearestOrEven)))
                codes[row * count + order[index]] = Int8(code)
                let error = (line[index] - code * scale) / product[index * count + index]
                for later in index..<count { line[later] -= error * product[later * count + index] }
            }
        }
        return codes
    }

    @Test func roundsAsTheTextbook() throws {
        let problem = Problem()
        let compute = Compute(precision: .f32)
        let memory = Workspace()
        compute.round(problem.weights, minus: nil, codes: problem.codes, scales: problem.scales)
        let factor = try SecondMomentFactor(problem.moment, smooth: problem.smooth, on: compute, memory)
        factor.round(problem.weights, codes: problem.codes, scales: problem.scales, on: compute, memory)
        let expected = try Self.textbook(problem)
        let found = Self.integers(problem.codes)
        // f32 turns a code over where a weight lies within some 1e-6 of the middle between two, and then what comes after
        // it in its row: a few rows of 70 at most.
        let differing = zip(found, expected).count { $0 != $1 }
        #expect(differing <= found.count / 100)
    }

    /// W H (H + D)⁻¹ by its definition: times H + D it is W H.
    @Test func adaptsToNoise() throws {
        let problem = Problem()
        let compute = Compute(precision: .f32)
        let memory = Workspace()
        let count = problem.smooth.count
        let noise = (0..<count).map { 0.3 + Float($0 % 7) }
        let factor = try SecondMomentFactor(
            problem.moment, smooth: problem.smooth, noise: noise, on: compute, memory)
        let adapted = problem.weights.widened
        factor.adaptToNoise(adapted, on: compute, memory)
        let moment = problem.moment.floats()
        let smoothed = (0..<count * count).map { moment[$0] / problem.smooth[$0 / count] / problem.smooth[$0 % count] }
        let mean = (0..<count).reduce(0.0) { $0 + Double(smoothed[$1 * count + $1] + noise[$1]) } / Double(count)
        // The damping is there too, and W D is what it was solved for: W' = W − W D (H + D + λ)⁻¹.
        let damped = (0..<count * count).map { index in
            smoothed[index] + (index % (count + 1) == 0 ? noise[index / count] + Float(0.01 * mean) : 0)
        }
        let change = zip(problem.weights.floats(), adapted.floats()).map { $0 - $1 }
        let found = GoldenLayerCase.product(change, damped, count)
        let expected = problem.weights.floats().enumerated().map { Double($1 * noise[$0 % count]) }
        let difference = zip(found, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
        // f32 solutions with a condition number of some 1e3.
        #expect(difference < 1e-3)
    }

    @Test func momentsWithoutRankAreDamped() throws {
        let compute = Compute(precision: .f32)
        // One token: rank 1. No token: all inputs are dead.
        for tokens in [1, 0] {
            let count = 192
            let moment = Tensor((0..<count * count).map { _ in tokens == 0 ? 0 : Float(1) }, shape: [count, count])
            let memory = Workspace()
            let ones = [Float](repeating: 1, count: count)
            let factor = try SecondMomentFactor(moment, smooth: ones, on: compute, memory)
            let weights = Tensor((0..<16 * count).map { Float($0 % 13) - 6 }, shape: [16, count])
            let codes = Tensor(zeros: [16, count], .int8)
            let scales = Tensor(zeros: [16, count / 64], .bfloat16)
            compute.round(weights, minus: nil, codes: codes, scales: scales)
            factor.round(weights, codes: codes, scales: scales, on: compute, memory)
            #expect(Self.integers(codes).allSatisfy { abs($0) <= 7 })
            if tokens == 0 { #expect(Self.integers(codes).allSatisfy { $0 == 0 }) }
        }
    }

    @Test func whatIsNotPositiveDefiniteIsSaid() {
        var values = [Float](repeating: 0, count: 64 * 64)
        for index in 0..<64 { values[index * 65] = 1 }
        values[1] = 1e9
        values[64] = 1e9
        let moment = Tensor(values, shape: [64, 64])
        #expect(throws: LayerError.self) {
            try SecondMomentFactor(
                moment, smooth: [Float](repeating: 1, count: 64), on: Compute(precision: .f32), Workspace())
        }
    }
}
