public import NibbleTensors

/// Makes 4-bit layers by SVDQuant (Li et al., arXiv 2411.05007): smoothing factors move outliers from inputs to weights,
/// a low-rank branch in 16 bits takes them up, and what is left of the weights is rounded.
///
/// The result depends on the group, its statistics, the recipe and the seed alone, not on the number of threads.
public struct LayerQuantizer {
    /// A stretch of the work that is done.
    public enum Step: Sendable, Equatable {
        /// The weights were looked at, and what they should give was computed.
        case prepared
        /// A pair of powers was tried.
        case candidate(_ number: Int, of: Int)
        /// The inputs' second moment was factorized.
        case factorized
        /// A member's branch was fitted.
        case iteration(member: Int, _ number: Int)
        /// A member is done.
        case rounded(member: Int)
    }

    /// How layers are quantized.
    public let recipe: LayerRecipe
    /// Called after each step. What it throws ends the work: a place for cancellation.
    public var onStep: ((Step) throws -> Void)?

    private let seed: UInt64
    private let compute: Compute

    /// - Parameters:
    ///   - recipe: how layers are quantized.
    ///   - seed: where the random numbers start.
    ///   - compute: f32, or products lose what is to be compared.
    public init(_ recipe: LayerRecipe, seed: UInt64, on compute: Compute) {
        precondition(compute.precision == .f32)
        self.recipe = recipe
        self.seed = seed
        self.compute = compute
    }

    /// Quantizes the layers of a group.
    ///
    /// - Parameters:
    ///   - group: the layers.
    ///   - statistics: what is known of their input; nil: nothing. Then smoothing must come from the weights or not at
    ///     all, weights are rounded to nearest, and the branch is fitted once.
    /// - Returns: the layers, and their errors over the sample.
    /// - Throws: `LayerError`, or what `onStep` throws.
    public func callAsFunction(_ group: LayerGroup, _ statistics: InputStatistics?) throws -> QuantizedGroup {
        try SmallMatrices.requireLibrary()
        try LayerChecks.check(group, statistics, recipe)
        let work = try LayerGroupWork(group, statistics, recipe, seed: seed, on: compute)
        try onStep?(.prepared)
        let smooth = try work.chooseSmoothing { try onStep?(.candidate($0, of: $1)) }
        let members = try work.quantize(smooth) { try onStep?($0) }
        return QuantizedGroup(members: members, alpha: smooth.alpha, beta: smooth.beta)
    }
}
