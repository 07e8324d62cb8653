internal import NibbleTensors

/// What is looked at before work begins.
enum LayerChecks {
    private static let floatTypes: Set<DType> = [.float32, .bfloat16, .float16, .float8E4M3]

    /// Fails where shapes do not fit each other or the 4-bit format, or where the recipe needs inputs that are not there.
    static func check(_ group: LayerGroup, _ statistics: InputStatistics?, _ recipe: LayerRecipe) throws(LayerError) {
        let inputs = group.inputs
        for member in group.members {
            guard inputs > 0, inputs.isMultiple(of: QuantizedWeights.groupSize), member.outputs > 0 else {
                throw .wrongShape(
                    layer: member.name,
                    reason: "\(member.outputs) × \(inputs) weights; the number of inputs must be a multiple of 64")
            }
            for weight in member.weights where weight.shape.rank != 2 || weight.width != inputs {
                throw .wrongShape(
                    layer: member.name, reason: "weights of shape \(weight.shape) beside others of \(inputs) inputs")
            }
            for weight in member.weights where !floatTypes.contains(weight.dtype) {
                throw .wrongShape(layer: member.name, reason: "weights of type \(weight.dtype.rawValue)")
            }
        }
        guard recipe.rank >= 0, recipe.rank.isMultiple(of: 16), recipe.rank <= 1024 else {
            throw .wrongShape(
                layer: group.members[0].name, reason: "a rank of \(recipe.rank); it must be a multiple of 16 to 1024")
        }
        try check(statistics, of: group.members[0].name, inputs, recipe)
    }

    private static func check(
        _ statistics: InputStatistics?, of layer: String, _ inputs: Int, _ recipe: LayerRecipe
    ) throws(LayerError) {
        if let statistics {
            let (maxima, sample, moment) = (statistics.maxima, statistics.sample, statistics.secondMoment)
            guard maxima.shape == [inputs], maxima.dtype == .float32, sample.rows > 0, sample.width == inputs,
                sample.shape.rank == 2, [.float32, .bfloat16].contains(sample.dtype),
                moment.map({ $0.shape == [inputs, inputs] && $0.dtype == .float32 }) ?? true
            else {
                throw .wrongShape(layer: layer, reason: "statistics of other inputs than its \(inputs)")
            }
        } else if case .search = recipe.smoothing {
            throw .inputsNeeded(layer: layer, for: "the search for smoothing factors")
        }
        if recipe.rounding != .nearest, statistics?.secondMoment == nil {
            throw .inputsNeeded(layer: layer, for: "GPTQ")
        }
    }

    /// The largest magnitude of each column of matrices.
    ///
    /// - Throws: `LayerError.notFinite` where one of them is no number.
    static func maxima(
        _ matrices: [Tensor], _ layer: String, _ what: String, on compute: Compute
    ) throws(LayerError) -> [Float] {
        let maxima = Tensor(zeros: [matrices[0].width], .float32)
        for matrix in matrices { compute.raise(maxima, toMagnitudesOf: matrix) }
        let values = maxima.floats()
        guard values.allSatisfy(\.isFinite) else { throw .notFinite(layer: layer, what: what) }
        return values
    }
}
