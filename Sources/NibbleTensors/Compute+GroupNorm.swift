internal import CNibbleKernels

/// Sums and sums of squares of each channel over pixels, in double precision.
public struct ChannelMoments: Sendable {
    var sums: [Double]
    var squares: [Double]
    var pixels = 0

    /// Those of no pixel.
    public init(channels: Int) {
        sums = Array(repeating: 0, count: channels)
        squares = sums
    }
}

/// A group normalization with known statistics: x · gain + offset for each channel.
public struct ChannelScale: Sendable {
    /// `[channels]` f32.
    public let gain: Tensor
    /// `[channels]` f32.
    public let offset: Tensor

    /// y = (x - mean) / √(variance + ε) · gain + offset, mean and variance over all pixels and the channels of a group
    /// (Group Normalization, arXiv 1803.08494, eq. 1 and 2).
    ///
    /// - Parameters:
    ///   - moments: of the pixels that are normalized.
    ///   - groups: divides the number of channels.
    ///   - gain: `[channels]`.
    ///   - offset: `[channels]`.
    ///   - epsilon: added to the variance.
    public init(_ moments: ChannelMoments, groups: Int, gain: [Float], offset: [Float], epsilon: Double) {
        let channels = gain.count
        precondition(moments.sums.count == channels && offset.count == channels && channels % groups == 0)
        let size = channels / groups
        var gains = gain
        var offsets = offset
        for group in 0..<groups {
            let members = group * size..<(group + 1) * size
            let count = Double(moments.pixels * size)
            let mean = moments.sums[members].reduce(0, +) / count
            let variance = max(0, moments.squares[members].reduce(0, +) / count - mean * mean)
            let inverse = 1 / (variance + epsilon).squareRoot()
            for channel in members {
                gains[channel] = Float(Double(gain[channel]) * inverse)
                offsets[channel] = Float(Double(offset[channel]) - mean * inverse * Double(gain[channel]))
            }
        }
        self.gain = Tensor(gains, shape: [channels])
        self.offset = Tensor(offsets, shape: [channels])
    }
}

extension Compute {
    /// Adds the moments of some rows. Every band is summed by itself and the bands are added from top to bottom, so a
    /// picture that comes in several pieces has the sums that it has in one, if the pieces end where bands do.
    ///
    /// - Parameters:
    ///   - x: f32 or bf16.
    ///   - moments: of as many channels.
    public func addMoments(of x: FeatureMap, to moments: inout ChannelMoments) {
        let channels = x.channels
        precondition(moments.sums.count == channels)
        let bands = FeatureMap.bands(of: x.rows, height: x.height, width: x.width)
        workspace.scope {
            let partial = workspace.tensor([bands.count, 2 * channels], .float64)
            run("group norm: statistics", bands.count) { part, _ in
                let sums = partial.rows(part..<part + 1).mutable(Double.self)
                sums.update(repeating: 0, count: 2 * channels)
                let x = x.slice(bands[part]).tensor
                kernels.column_moments(
                    x.address, x.dtype.kernelFloat, x.rowStride, x.rows, channels, sums, sums + channels)
            }
            for band in 0..<bands.count {
                let sums = partial.rows(band..<band + 1).readable(Double.self)
                for channel in 0..<channels {
                    moments.sums[channel] += sums[channel]
                    moments.squares[channel] += sums[channels + channel]
                }
            }
        }
        moments.pixels += x.tensor.rows
    }

    /// y = x · gain + offset, channel by channel.
    ///
    /// - Parameters:
    ///   - x: `[pixels, channels]`, f32 or bf16.
    ///   - scale: of as many channels.
    ///   - y: `[pixels, channels]`, f32 or bf16.
    public func scale(_ x: Tensor, by scale: ChannelScale, into y: Tensor) {
        precondition(x.shape == y.shape && scale.gain.elementCount == x.width)
        forRows("scale and offset", x.rows, block: 256) { rows in
            kernels.scaleOffset(x.rows(rows), by: scale, silu: false, into: y.rows(rows))
        }
    }
}

extension nibble_kernels {
    func scaleOffset(_ x: Tensor, by scale: ChannelScale, silu: Bool, into y: Tensor) {
        scale_offset(
            x.address, x.dtype.kernelFloat, x.rowStride, y.mutableAddress, y.dtype.kernelFloat, y.rowStride, x.rows,
            x.width, scale.gain.readable(Float.self), scale.offset.readable(Float.self), silu)
    }
}
