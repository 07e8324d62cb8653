internal import NibbleCheckpoints
internal import NibbleTensors

/// A group of layers while it is quantized.
struct LayerGroupWork {
    private let recipe: LayerRecipe
    private let seed: UInt64
    private let compute: Compute
    private let members: [LayerMember]
    private let rowSums: [[Double]]
    private let statistics: InputStatistics?
    private let inputMaxima, weightMaxima: [Float]
    /// Large temporaries, given back with the group.
    private let memory = Workspace()

    /// Subspace iterations while candidates are compared, which all err alike, and for what is kept.
    private static let searchIterations = 2, finalIterations = 4

    /// - Throws: `LayerError.notFinite`.
    init(
        _ group: LayerGroup, _ statistics: InputStatistics?, _ recipe: LayerRecipe, seed: UInt64, on compute: Compute
    ) throws(LayerError) {
        (self.recipe, self.seed, self.compute, self.statistics) = (recipe, seed, compute, statistics)
        let first = group.members[0].name
        var sample: Tensor?
        if let statistics {
            inputMaxima = statistics.maxima.floats()
            guard inputMaxima.allSatisfy(\.isFinite) else { throw .notFinite(layer: first, what: "its inputs") }
            _ = try LayerChecks.maxima([statistics.sample], first, "the sample of its inputs", on: compute)
            if let moment = statistics.secondMoment {
                _ = try LayerChecks.maxima([moment], first, "its inputs' second moment", on: compute)
            }
            sample = Tensor(zeros: statistics.sample.shape, .float32)
            if let sample { compute.convert(statistics.sample, into: sample) }
        } else {
            inputMaxima = Array(repeating: 1, count: group.inputs)
        }
        var members: [LayerMember] = []
        var maxima = [Float](repeating: 0, count: group.inputs)
        for member in group.members {
            guard member.bias.floats().allSatisfy(\.isFinite) else {
                throw .notFinite(layer: member.name, what: "its bias")
            }
            let layer = LayerMember(
                member, isUnsigned: group.isUnsigned, sample: sample, on: compute, memory)
            let own = try LayerChecks.maxima(layer.weights, member.name, "its weights", on: compute)
            maxima = zip(maxima, own).map(max)
            members.append(layer)
        }
        weightMaxima = maxima
        self.members = members
        rowSums = members.map { $0.rowSums(on: compute) }
    }

    // MARK: Smoothing

    /// The smoothing factors that the recipe asks for.
    ///
    /// - Parameter progress: called after each candidate with its number and the number of all.
    func chooseSmoothing(_ progress: (Int, Int) throws -> Void) throws -> SmoothingFactors {
        switch recipe.smoothing {
        case .none: return .ones(weightMaxima.count)
        case .weightsOnly(let beta):
            return SmoothingFactors(inputs: inputMaxima.map { _ in 1 }, weights: weightMaxima, alpha: 0, beta: beta)
        case .search(let points):
            let scores = try score(SmoothingFactors.grid(points: points), progress)
            // Of equal ones the later, as DeepCompressor's search does.
            var best = scores[0]
            for score in scores where score.error <= best.error { best = score }
            return best.smooth
        }
    }

    /// The squared output error of pairs of powers, all members together.
    func score(
        _ grid: [(alpha: Float, beta: Float)], _ progress: (Int, Int) throws -> Void
    ) throws -> [(smooth: SmoothingFactors, error: Double)] {
        var scores: [(smooth: SmoothingFactors, error: Double)] = []
        for (number, powers) in grid.enumerated() {
            let smooth = SmoothingFactors(
                inputs: inputMaxima, weights: weightMaxima, alpha: powers.alpha, beta: powers.beta)
            var error = 0.0
            for member in members.indices { error += try scoreOnce(member, smooth) }
            scores.append((smooth, error))
            try progress(number + 1, grid.count)
        }
        return scores
    }

    private func scoreOnce(_ index: Int, _ smooth: SmoothingFactors) throws(LayerError) -> Double {
        try scoped { () throws(LayerError) in
            let buffers = buffers(of: index)
            members[index].writeSmoothed(into: buffers.weights, smooth.tensor, on: compute)
            var pair: LowRankPair?
            if case .weights = recipe.branch {
                pair = try fit(buffers.weights, index, smooth, iterations: Self.searchIterations).pair
            }
            return roundToNearest(index, buffers, smooth, pair).error ?? 0
        }
    }

    // MARK: One member

    /// Quantizes a member with given smoothing factors.
    ///
    /// - Parameter progress: called after each fit of the branch with its number.
    func quantize(
        _ index: Int, _ smooth: SmoothingFactors, _ progress: (Int) throws -> Void
    ) throws -> QuantizedGroup.Member {
        let member = members[index]
        let naive = memory.scope {
            let buffers = buffers(of: index)
            let ones = SmoothingFactors.ones(member.inputs)
            member.writeSmoothed(into: buffers.weights, ones.tensor, on: compute)
            return roundToNearest(index, buffers, ones, nil).error
        }
        return try memory.scope {
            let buffers = buffers(of: index)
            let trial =
                switch recipe.branch {
                case .none: try finish(index, buffers, smooth, nil)
                case .weights(let iterations):
                    try finish(index, buffers, smooth, try fitBranch(index, buffers, smooth, iterations, progress))
                case .error: try fitError(index, buffers, smooth)
                }
            return QuantizedGroup.Member(
                name: member.name, weights: trial.weights, naiveError: relative(naive, index),
                error: relative(squaredError(trial), index))
        }
    }

    /// The branch of the smoothed weights, fitted again to what the last rounding left over, as long as the output error
    /// falls.
    private func fitBranch(
        _ index: Int, _ buffers: Buffers, _ smooth: SmoothingFactors, _ iterations: Int,
        _ progress: (Int) throws -> Void
    ) throws -> LowRankPair {
        members[index].writeSmoothed(into: buffers.weights, smooth.tensor, on: compute)
        var (pair, subspace) = try fit(buffers.weights, index, smooth, iterations: Self.finalIterations)
        try progress(1)
        guard iterations > 1, members[index].reference != nil else { return pair }
        var best = pair
        var least = Double.infinity
        for number in 2...iterations + 1 {
            members[index].writeSmoothed(into: buffers.weights, smooth.tensor, on: compute)
            let error = roundToNearest(index, buffers, smooth, pair).error ?? 0
            guard error <= least else { break }
            (best, least) = (pair, error)
            guard number <= iterations else { break }
            members[index].writeSmoothed(into: buffers.weights, smooth.tensor, on: compute)
            compute.subtract(codes: buffers.codes, scales: buffers.scales, from: buffers.weights)
            (pair, subspace) = try fit(
                buffers.weights, index, smooth, iterations: Self.searchIterations, start: subspace)
            try progress(number)
        }
        return best
    }

    /// Rounds what the branch leaves of the smoothed weights as the recipe says.
    private func finish(
        _ index: Int, _ buffers: Buffers, _ smooth: SmoothingFactors, _ pair: LowRankPair?
    ) throws(LayerError) -> LayerTrial {
        members[index].writeSmoothed(into: buffers.weights, smooth.tensor, on: compute)
        compute.round(
            buffers.weights, minus: pair.map { ($0.upValues, $0.smoothedDown) }, codes: buffers.codes,
            scales: buffers.scales)
        if recipe.rounding == .gptq, let moment = statistics?.secondMoment {
            try named(index) { () throws(LayerError) in
                try scoped { () throws(LayerError) in
                    let factor = try SecondMomentFactor(moment, smooth: smooth.values, on: compute, memory)
                    factor.round(buffers.weights, codes: buffers.codes, scales: buffers.scales, on: compute, memory)
                }
            }
        }
        return trial(index, buffers, smooth, pair)
    }

    /// Rounds the smoothed weights, and puts what that lost into the branch.
    private func fitError(
        _ index: Int, _ buffers: Buffers, _ smooth: SmoothingFactors
    ) throws(LayerError) -> LayerTrial {
        _ = try finish(index, buffers, smooth, nil)
        members[index].writeSmoothed(into: buffers.weights, smooth.tensor, on: compute)
        compute.subtract(codes: buffers.codes, scales: buffers.scales, from: buffers.weights)
        let pair = try fit(buffers.weights, index, smooth, iterations: Self.finalIterations).pair
        return trial(index, buffers, smooth, pair)
    }

    // MARK: Parts

    /// A member's weights as they are worked on.
    private struct Buffers {
        /// `[out, in]` f32.
        let weights: Tensor
        /// `[out, in]` I8.
        let codes: Tensor
        /// `[out, in / 64]` BF16.
        let scales: Tensor
    }

    private func buffers(of index: Int) -> Buffers {
        let (outputs, inputs) = (members[index].outputs, members[index].inputs)
        return Buffers(
            weights: memory.tensor([outputs, inputs], .float32), codes: memory.tensor([outputs, inputs], .int8),
            scales: memory.tensor([outputs, inputs / Int4Weights.groupSize], .bfloat16))
    }

    /// The branch that is nearest to a matrix.
    private func fit(
        _ matrix: Tensor, _ index: Int, _ smooth: SmoothingFactors, iterations: Int, start: Tensor? = nil
    ) throws(LayerError) -> (pair: LowRankPair, subspace: Tensor) {
        try named(index) { () throws(LayerError) in
            let parts = try TruncatedSVD(
                of: matrix, rank: recipe.rank, iterations: iterations, start: start, seed: seed, on: compute, memory)
            return (
                LowRankPair(left: parts.left, right: parts.right, smooth: smooth.values, on: compute), parts.subspace
            )
        }
    }

    /// Rounds the buffers' smoothed weights less a branch, and compares.
    private func roundToNearest(
        _ index: Int, _ buffers: Buffers, _ smooth: SmoothingFactors, _ pair: LowRankPair?
    ) -> (trial: LayerTrial, error: Double?) {
        compute.round(
            buffers.weights, minus: pair.map { ($0.upValues, $0.smoothedDown) }, codes: buffers.codes,
            scales: buffers.scales)
        let trial = trial(index, buffers, smooth, pair)
        return (trial, squaredError(trial))
    }

    private func trial(
        _ index: Int, _ buffers: Buffers, _ smooth: SmoothingFactors, _ pair: LowRankPair?
    ) -> LayerTrial {
        let member = members[index]
        let pair = pair ?? LowRankPair(zerosOfRank: recipe.rank, outputs: member.outputs, inputs: member.inputs)
        return LayerTrial(
            member: member, codes: buffers.codes, scales: buffers.scales, smooth: smooth, pair: pair,
            bias: member.storedBias(rowSums[index], pair))
    }

    private func squaredError(_ trial: LayerTrial) -> Double? {
        guard let sample = statistics?.sample, let reference = trial.member.reference else { return nil }
        return trial.squaredError(sample, reference, recipe.activations, on: compute, memory)
    }

    /// ‖y_q − y‖ / ‖y‖; 0 where both are zero.
    private func relative(_ squaredError: Double?, _ index: Int) -> Float? {
        guard let squaredError, let reference = members[index].reference else { return nil }
        let norm = compute.squaredDistance(reference, Tensor(zeros: reference.shape, .float32))
        return norm == 0 ? (squaredError == 0 ? 0 : .infinity) : Float((squaredError / norm).squareRoot())
    }

    /// Gives an error of a factorization the member's name.
    private func named<Value>(
        _ index: Int, _ body: () throws(LayerError) -> Value
    ) throws(LayerError) -> Value {
        do {
            return try body()
        } catch .notFactorized(_, let reason) {
            throw .notFactorized(layer: members[index].name, reason: reason)
        }
    }

    /// `Workspace.scope` with its error's type.
    private func scoped<Value>(_ body: () throws(LayerError) -> Value) throws(LayerError) -> Value {
        do {
            return try memory.scope(body)
        } catch let error as LayerError {
            throw error
        } catch {
            preconditionFailure("nothing else is thrown")
        }
    }
}
