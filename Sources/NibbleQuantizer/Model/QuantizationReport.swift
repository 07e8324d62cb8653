/// What became of a model's layers.
public struct QuantizationReport: Codable, Sendable, Equatable {
    /// A layer.
    public struct Layer: Codable, Sendable, Equatable {
        /// Its name in the 4-bit model.
        public let name: String
        /// ‖y_q − y‖ / ‖y‖ over the kept inputs where weights and inputs are just rounded; nil without inputs.
        public let naiveError: Float?
        /// The same of what was made; nil without inputs.
        public let error: Float?
        /// The powers of the smoothing factors.
        public let alpha, beta: Float
        /// Seconds for this layer and those that share its input.
        public let seconds: Double
    }

    /// In the order of the model.
    public var layers: [Layer]

    /// A report of some layers.
    public init(layers: [Layer]) { self.layers = layers }
}
