public import NibbleCheckpoints

/// A group of layers in 4 bits, and how well they do.
public struct QuantizedGroup: Sendable {
    /// A layer.
    public struct Member: Sendable {
        /// Its name.
        public let name: String
        /// What becomes of it.
        public let weights: Int4Weights
        /// ‖y_q − y‖ / ‖y‖ over the sample of inputs where weights and inputs are just rounded; nil without inputs.
        public let naiveError: Float?
        /// The same of what was made; nil without inputs.
        public let error: Float?
    }

    /// In the order of the group's.
    public let members: [Member]
    /// The powers of the smoothing factors; 0 and 0 where all are 1.
    public let alpha, beta: Float
}
