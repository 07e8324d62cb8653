public import NibbleCheckpoints
public import NibbleTensors

/// Normalization over all pixels and the channels of a group (Group Normalization, arXiv 1803.08494).
public struct GroupNorm: Sendable {
    private let groups: Int
    private let epsilon: Double
    private let gain: [Float]
    private let offset: [Float]

    /// Reads `weight` and `bias`, both `[channels]`.
    ///
    /// - Parameters:
    ///   - weights: a reader of this layer's tensors.
    ///   - channels: the number of channels.
    ///   - groups: divides the number of channels.
    ///   - epsilon: added to the variance.
    /// - Throws: what is wrong with a tensor.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    public init(_ weights: WeightReader, channels: Int, groups: Int, epsilon: Double) throws(CheckpointError) {
        self.groups = groups
        self.epsilon = epsilon
        gain = try weights.vector("weight", channels).floats()
        offset = try weights.vector("bias", channels).floats()
    }

    /// What is done to each channel of a picture of those moments.
    public func scale(_ moments: ChannelMoments) -> ChannelScale {
        ChannelScale(moments, groups: groups, gain: gain, offset: offset, epsilon: epsilon)
    }

    /// What is done to each channel of a whole picture.
    public func scale(of x: FeatureMap, on compute: Compute) -> ChannelScale {
        var moments = ChannelMoments(channels: x.channels)
        compute.addMoments(of: x, to: &moments)
        return scale(moments)
    }
}
