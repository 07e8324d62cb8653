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
    /// Whether the input comes from a GELU: it is then shifted by `Int4Layer.unsignedShift` and quantized without sign.
    public let isUnsigned: Bool
    /// Whether the engine's 8-bit codes of its input end at ±112: `QuantizedWeights.leavesRoomForPairs`.
    public let leavesRoomForPairs: Bool

    /// See the properties.
    public init(members: [Member], isUnsigned: Bool, leavesRoomForPairs: Bool = false) {
        self.members = members
        self.isUnsigned = isUnsigned
        self.leavesRoomForPairs = leavesRoomForPairs
    }

    /// Input channels.
    public var inputs: Int { members[0].weights[0].width }
}
