internal import NibbleCheckpoints
internal import NibbleTensors

/// A group of layers while it is quantized.
struct LayerGroupWork {
    private let context: WorkContext
    private let members: [LayerMember]
    private let inputMaxima, weightMaxima: [Float]

    /// Looks at the numbers, and computes what the layers give for the sample.
    ///
    /// - Throws: `LayerError.notFinite`.
    init(
        _ group: LayerGroup, _ statistics: InputStatistics?, _ recipe: LayerRecipe, seed: UInt64, on compute: Compute
    ) throws(LayerError) {
        let context = WorkContext(
            recipe: recipe, seed: seed, statistics: statistics, inputCodes: group.inputCodes, compute: compute)
        let sample = try Self.checkedSample(statistics, group.members[0].name, on: compute)
        inputMaxima = statistics?.maxima.floats() ?? []
        var members: [LayerMember] = []
        var maxima = [Float](repeating: 0, count: group.inputs)
        for member in group.members {
            guard member.bias.floats().allSatisfy(\.isFinite) else {
                throw .notFinite(layer: member.name, what: "its bias")
            }
            let layer = LayerMember(
                member, inputCodes: group.inputCodes, sample: sample, on: compute, context.memory)
            let own = try LayerChecks.maxima(layer.weights, member.name, "its weights", on: compute)
            maxima = zip(maxima, own).map(max)
            members.append(layer)
        }
        weightMaxima = maxima
        self.members = members
        self.context = context
    }

    /// The sample in f32; nil without statistics.
    private static func checkedSample(
        _ statistics: InputStatistics?, _ layer: String, on compute: Compute
    ) throws(LayerError) -> Tensor? {
        guard let statistics else { return nil }
        guard statistics.maxima.floats().allSatisfy(\.isFinite) else {
            throw .notFinite(layer: layer, what: "its inputs")
        }
        _ = try LayerChecks.maxima([statistics.sample], layer, "the sample of its inputs", on: compute)
        if let moment = statistics.secondMoment {
            _ = try LayerChecks.maxima([moment], layer, "its inputs' second moment", on: compute)
        }
        let sample = Tensor(zeros: statistics.sample.shape, .float32)
        compute.convert(statistics.sample, into: sample)
        return sample
    }

    /// The smoothing factors that the recipe asks for.
    ///
    /// - Parameter progress: called after each candidate with its number and the number of all.
    /// - Returns: the factors.
    /// - Throws: `LayerError`, or what `progress` throws.
    func chooseSmoothing(_ progress: (Int, Int) throws -> Void) throws -> SmoothingFactors {
        switch context.recipe.smoothing {
        case .none: return .ones(weightMaxima.count)
        case .weightsOnly(let beta):
            let ones = [Float](repeating: 1, count: weightMaxima.count)
            return SmoothingFactors(inputs: ones, weights: weightMaxima, alpha: 0, beta: beta)
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
        var subspaces = [Tensor?](repeating: nil, count: members.count)
        for (number, powers) in grid.enumerated() {
            let smooth = SmoothingFactors(
                inputs: inputMaxima, weights: weightMaxima, alpha: powers.alpha, beta: powers.beta)
            var error = 0.0
            for (index, member) in members.enumerated() {
                error += try context.memory.scope {
                    try MemberWork(context, member, smooth, factor: nil).quickError(&subspaces[index])
                }
            }
            scores.append((smooth, error))
            try progress(number + 1, grid.count)
        }
        return scores
    }

    /// Quantizes all members with given smoothing factors.
    ///
    /// - Parameters:
    ///   - smooth: the factors.
    ///   - progress: called after each step.
    /// - Returns: the layers, with their errors.
    /// - Throws: `LayerError`, or what `progress` throws.
    func quantize(
        _ smooth: SmoothingFactors, _ progress: (LayerQuantizer.Step) throws -> Void
    ) throws -> [QuantizedGroup.Member] {
        try context.memory.scope {
            let factor = try factorize(smooth)
            if factor != nil { try progress(.factorized) }
            return try members.enumerated().map { index, member in
                let naive = try context.memory.scope {
                    try MemberWork(context, member, .ones(member.inputs), factor: nil).naiveError()
                }
                let result = try context.memory.scope {
                    try MemberWork(context, member, smooth, factor: factor)
                        .quantize { try progress(.iteration(member: index, $0)) }
                }
                try progress(.rounded(member: index))
                return QuantizedGroup.Member(
                    name: member.name, weights: result.weights, naiveError: context.relative(naive, member),
                    error: context.relative(result.error, member))
            }
        }
    }

    /// What GPTQ rounds with; nil where the recipe asks for no GPTQ.
    private func factorize(_ smooth: SmoothingFactors) throws(LayerError) -> SecondMomentFactor? {
        guard context.recipe.rounding == .gptq, let moment = context.statistics?.secondMoment else { return nil }
        return try LayerError.naming(members[0].name) { () throws(LayerError) in
            try SecondMomentFactor(moment, smooth: smooth.values, on: context.compute, context.memory)
        }
    }
}

/// What all parts of a group's work share.
struct WorkContext {
    /// How layers are quantized.
    let recipe: LayerRecipe
    /// Where random numbers start.
    let seed: UInt64
    /// What is known of the inputs.
    let statistics: InputStatistics?
    /// See `LayerGroup`.
    let inputCodes: InputCodes
    /// What computes.
    let compute: Compute
    /// Large temporaries, given back with the group.
    let memory = Workspace()

    /// ‖y_q − y‖ / ‖y‖ from the square of the first; nil without a sample, 0 where both are zero.
    func relative(_ squaredError: Double?, _ member: LayerMember) -> Float? {
        guard let squaredError, let reference = member.reference else { return nil }
        let norm = compute.squaredDistance(reference, Tensor(zeros: reference.shape, .float32))
        return norm == 0 ? (squaredError == 0 ? 0 : .infinity) : Float((squaredError / norm).squareRoot())
    }
}
