public import NibbleTensors

/// Linear layers that read one input and share its smoothing factors: in FLUX.1 a single block's q, k, v and its MLP's
/// first layer, everywhere else one layer.
public struct LayerGroup: Sendable {
    /// A layer of the 4-bit model, which may be several of the original: q, k and v become one, with one low-rank pair.
    public struct Member: Sendable {
        /// Its name in the 4-bit model, for reports and errors.
        public let name: String
        /// Weights whose rows follow each other in the 4-bit layer: each `[out_i, in]`, of any float type; rows may lie
        /// apart.
        public let weights: [Tensor]
        /// `[Σ out_i]` f32.
        public let bias: Tensor

        /// See the properties.
        public init(name: String, weights: [Tensor], bias: Tensor) {
            precondition(weights.reduce(0) { $0 + $1.rows } == bias.elementCount)
            self.name = name
            self.weights = weights
            self.bias = bias
        }

        /// Output channels.
        public var outputs: Int { bias.elementCount }
    }

    /// At least one.
    public let members: [Member]
    /// What the engine makes of the input.
    public let inputCodes: InputCodes

    /// See the properties.
    public init(members: [Member], inputCodes: InputCodes) {
        self.members = members
        self.inputCodes = inputCodes
    }

    /// Input channels.
    public var inputs: Int { members[0].weights[0].width }
}
