internal import NibbleCheckpoints
internal import NibbleTensors

/// One layer while it is quantized with given smoothing factors. Its matrices are borrowed from the workspace: use it
/// within a scope of that.
struct MemberWork {
    private let context: WorkContext
    private let member: LayerMember
    private let smooth: SmoothingFactors
    private let smoothTensor: Tensor
    private let factor: SecondMomentFactor?
    /// The smoothed weights or what is left of them, `[out, in]` f32.
    private let weights: Tensor
    /// `[out, in]` I8.
    private let codes: Tensor
    /// `[out, in / 64]` BF16.
    private let scales: Tensor

    /// Subspace iterations: from nothing, and from a subspace that is nearly right, as that of another candidate.
    private static let firstIterations = 6, furtherIterations = 3
    /// Fits of the branch without a smaller error after which no more follow. The error does not fall evenly: with one,
    /// as DeepCompressor has it, chance decides where it ends.
    private static let patience = 4

    /// - Parameters:
    ///   - context: what is shared.
    ///   - member: the layer.
    ///   - smooth: the factors.
    ///   - factor: what GPTQ rounds with, for these factors; nil: round to nearest.
    init(_ context: WorkContext, _ member: LayerMember, _ smooth: SmoothingFactors, factor: SecondMomentFactor?) {
        (self.context, self.member, self.smooth, self.factor) = (context, member, smooth, factor)
        smoothTensor = Tensor(smooth.values, shape: [smooth.values.count])
        let (outputs, inputs) = (member.outputs, member.inputs)
        weights = context.memory.tensor([outputs, inputs], .float32)
        codes = context.memory.tensor([outputs, inputs], .int8)
        scales = context.memory.tensor([outputs, inputs / Int4Weights.groupSize], .bfloat16)
    }

    // MARK: Whole ways

    /// Σ (y_q − y)² with one fit of the branch and rounding to nearest: to compare smoothing factors with.
    ///
    /// - Parameter subspace: where the fit starts, and then what it has found: candidates that follow each other are alike.
    /// - Returns: the error; 0 without a sample.
    /// - Throws: `LayerError.notFactorized`.
    func quickError(_ subspace: inout Tensor?) throws(LayerError) -> Double {
        restoreWeights()
        var pair: LowRankPair?
        switch context.recipe.branch {
        case .weights, .outputs:
            let iterations = subspace == nil ? Self.firstIterations : Self.furtherIterations
            let fitted = try fit(iterations: iterations, start: subspace)
            (pair, subspace) = (fitted.pair, fitted.subspace)
        case .none, .error: break
        }
        round(minus: pair)
        return squaredError(trial(pair)) ?? 0
    }

    /// The same of weights that are just rounded; nil without a sample.
    func naiveError() throws(LayerError) -> Double? {
        restoreWeights()
        round(minus: nil)
        return squaredError(trial(nil))
    }

    /// Quantizes the layer as the recipe says.
    ///
    /// - Parameter progress: called after each fit of the branch with its number.
    /// - Returns: the layer, and its squared error; nil without a sample.
    /// - Throws: `LayerError`, or what `progress` throws.
    func quantize(_ progress: (Int) throws -> Void) throws -> (weights: Int4Weights, error: Double?) {
        switch context.recipe.branch {
        case .none: return result(rounded(minus: nil))
        case .error:
            _ = rounded(minus: nil)
            restoreRemainder()
            return result(trial(try fit(iterations: Self.firstIterations).pair))
        case .weights(let iterations):
            return result(rounded(minus: try fitWeights(iterations, progress).pair))
        case .outputs(let iterations):
            let start = try fitWeights(iterations, progress)
            guard member.reference != nil else { return result(rounded(minus: start.pair)) }
            return try fitOutputs(start, iterations, progress)
        }
    }

    // MARK: The branch

    /// A branch, the subspace that it was found in, and how often a branch was fitted so far.
    private typealias Fit = (pair: LowRankPair, subspace: Tensor, number: Int)

    /// The branch that is nearest to the smoothed weights, fitted again to what their rounding left over (to nearest, as
    /// the paper has it), as long as the output error falls.
    private func fitWeights(_ iterations: Int, _ progress: (Int) throws -> Void) throws -> Fit {
        restoreWeights()
        var (pair, subspace) = try fit(iterations: Self.firstIterations)
        try progress(1)
        var best = (pair: pair, error: Double.infinity, number: 1)
        guard iterations > 1, member.reference != nil else { return (pair, subspace, 1) }
        var number = 1
        while true {
            restoreWeights()
            round(minus: pair)
            let error = squaredError(trial(pair)) ?? 0
            if error <= best.error { best = (pair, error, number) }
            guard number < iterations, number - best.number < Self.patience else { break }
            restoreRemainder()
            (pair, subspace) = try fit(iterations: Self.furtherIterations, start: subspace)
            number += 1
            try progress(number)
        }
        return (best.pair, subspace, number)
    }

    /// Rounding and the branch in turn: the branch is what makes the outputs' error least for the rounded weights as they
    /// are, and these are rounded again for the branch. The best of all pairs of both is kept.
    private func fitOutputs(
        _ start: Fit, _ iterations: Int, _ progress: (Int) throws -> Void
    ) throws -> (weights: Int4Weights, error: Double?) {
        let weighting = InputWeighting(context.statistics, smooth: smooth.values, shift: member.shift)
        var (pair, subspace, number) = start
        var best: (weights: Int4Weights, error: Double?)?
        var bestRound = 0
        for round in 0..<iterations {
            _ = rounded(minus: pair)
            restoreRemainder()
            (pair, subspace) = try fit(iterations: Self.furtherIterations, start: subspace, weighting: weighting)
            number += 1
            try progress(number)
            let trial = trial(pair)
            let error = squaredError(trial) ?? 0
            if error <= best?.error ?? .infinity {
                best = (trial.weights, error)
                bestRound = round
            }
            guard round - bestRound < Self.patience else { break }
        }
        return best ?? result(rounded(minus: pair))
    }

    /// The branch that is nearest to what is in `weights`.
    private func fit(
        iterations: Int, start: Tensor? = nil, weighting: InputWeighting? = nil
    ) throws(LayerError) -> (pair: LowRankPair, subspace: Tensor) {
        try LayerError.naming(member.name) { () throws(LayerError) in
            let parts = try TruncatedSVD(
                of: weights, rank: context.recipe.rank, iterations: iterations, start: start, seed: context.seed,
                weighting: weighting, on: context.compute, context.memory)
            let pair = LowRankPair(
                left: parts.left, right: parts.right, smooth: smooth.values, on: context.compute)
            return (pair, parts.subspace)
        }
    }

    // MARK: Parts

    /// `weights` is what it was.
    private func restoreWeights() { member.writeSmoothed(into: weights, smoothTensor, on: context.compute) }

    /// `weights` is what the rounding has left over.
    private func restoreRemainder() {
        restoreWeights()
        context.compute.subtract(codes: codes, scales: scales, from: weights)
    }

    /// Rounds `weights` less a branch to nearest; they become what was rounded.
    private func round(minus pair: LowRankPair?) {
        context.compute.round(
            weights, minus: pair.map { ($0.upValues, $0.smoothedDown) }, codes: codes, scales: scales)
    }

    /// Rounds the smoothed weights less a branch as the recipe says.
    private func rounded(minus pair: LowRankPair?) -> LayerTrial {
        restoreWeights()
        round(minus: pair)
        if let factor {
            factor.round(weights, codes: codes, scales: scales, on: context.compute, context.memory)
        }
        return trial(pair)
    }

    private func trial(_ pair: LowRankPair?) -> LayerTrial {
        let pair =
            pair ?? LowRankPair(zerosOfRank: context.recipe.rank, outputs: member.outputs, inputs: member.inputs)
        return LayerTrial(
            codes: codes, scales: scales, smooth: smooth, pair: pair, bias: member.storedBias(pair),
            inputCodes: context.inputCodes)
    }

    private func squaredError(_ trial: LayerTrial) -> Double? {
        guard let sample = context.statistics?.sample, let reference = member.reference else { return nil }
        return trial.squaredError(sample, reference, context.recipe.activations, on: context.compute, context.memory)
    }

    private func result(_ trial: LayerTrial) -> (weights: Int4Weights, error: Double?) {
        (trial.weights, squaredError(trial))
    }
}
