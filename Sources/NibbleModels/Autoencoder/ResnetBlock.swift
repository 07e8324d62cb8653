internal import NibbleCheckpoints
internal import NibbleTensors

/// y = shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x)))))): diffusers' `ResnetBlock2D` without a time embedding.
/// The shortcut is a convolution of one pixel where the number of channels changes, else nothing.
struct ResnetBlock: Sendable {
    let input: Int
    let output: Int
    private let norm1, norm2: GroupNorm
    private let convolution1, convolution2: Convolution
    private let shortcut: Convolution?

    init(_ weights: WeightReader, input: Int, output: Int, groups: Int) throws(CheckpointError) {
        self.input = input
        self.output = output
        norm1 = try GroupNorm(weights["norm1"], channels: input, groups: groups, epsilon: 1e-6)
        convolution1 = try Convolution(weights["conv1"], input: input, output: output, geometry: .same)
        norm2 = try GroupNorm(weights["norm2"], channels: output, groups: groups, epsilon: 1e-6)
        convolution2 = try Convolution(weights["conv2"], input: output, output: output, geometry: .same)
        shortcut =
            input == output
            ? nil
            : try Convolution(weights["conv_shortcut"], input: input, output: output, geometry: .pointwise)
    }

    /// Whether the output can take the input's place in memory.
    var isInPlace: Bool { shortcut == nil }

    /// Applies the block to a whole picture.
    ///
    /// - Parameters:
    ///   - x: the input.
    ///   - hidden: for what is between the convolutions, of `output` channels.
    ///   - y: the output; x itself where the block is in place.
    ///   - compute: what to compute with.
    func callAsFunction(_ x: FeatureMap, hidden: FeatureMap, into y: FeatureMap, on compute: Compute) {
        compute.convolve(x, .scaledSiLU(norm1.scale(of: x, on: compute)), with: convolution1.weights, into: hidden)
        if !isInPlace { passOn(x, into: y, on: compute) }
        compute.convolve(
            hidden, .scaledSiLU(norm2.scale(of: hidden, on: compute)), with: convolution2.weights, into: y,
            adding: true)
    }

    /// Applies the block stripe by stripe, from top to bottom. What is between the convolutions is never there as a
    /// whole: it is computed twice, once for the statistics of `norm2` and once, with the row above and the row below a
    /// stripe, for the output.
    ///
    /// - Parameters:
    ///   - source: gives rows of the input: stored ones, or such as it makes in the workspace.
    ///   - y: the output.
    ///   - overwrites: whether y is the memory that the source reads; only for a block in place.
    ///   - stripes: the picture's rows in order; they end where bands do.
    ///   - compute: what to compute with.
    ///   - beforeStripe: called before each stripe of each pass; may throw to give up.
    func inStripes(
        _ source: (Range<Int>) -> FeatureMap, into y: FeatureMap, overwrites: Bool, stripes: [Range<Int>],
        on compute: Compute, beforeStripe: () throws -> Void
    ) rethrows {
        func around(_ rows: Range<Int>, _ count: Int) -> Range<Int> {
            max(0, rows.lowerBound - count)..<min(y.height, rows.upperBound + count)
        }
        func hidden(_ rows: Range<Int>, of x: FeatureMap, _ scale: ChannelScale) -> FeatureMap {
            let hidden = compute.features(output, height: y.height, width: y.width, rows: rows)
            compute.convolve(x, .scaledSiLU(scale), with: convolution1.weights, into: hidden)
            return hidden
        }
        let scale1 = norm1.scale(
            try moments(of: source, channels: input, stripes, on: compute, beforeStripe: beforeStripe))
        let middle = { hidden($0, of: source(around($0, 1)), scale1) }
        let scale2 = norm2.scale(
            try moments(of: middle, channels: output, stripes, on: compute, beforeStripe: beforeStripe))

        let workspace = compute.workspace
        try workspace.scope {
            // Where the output overwrites the input, a stripe waits until the next one's input has been read.
            let longest = stripes.map(\.count).max() ?? 0
            let held = overwrites ? workspace.tensor([longest * y.width, output], y.tensor.dtype) : nil
            var waiting: FeatureMap?
            func settle() {
                if let waiting { compute.convert(waiting.tensor, into: y.slice(waiting.rows).tensor) }
            }
            for stripe in stripes {
                try beforeStripe()
                workspace.scope {
                    let x = source(around(stripe, 2))
                    let middle = hidden(around(stripe, 1), of: x, scale1)
                    settle()
                    let target =
                        held.map {
                            FeatureMap(
                                $0.rows(0..<stripe.count * y.width), height: y.height, width: y.width, rows: stripe)
                        } ?? y.slice(stripe)
                    passOn(x.slice(stripe), into: target, on: compute)
                    compute.convolve(
                        middle, .scaledSiLU(scale2), with: convolution2.weights, into: target, adding: true)
                    if overwrites { waiting = target }
                }
            }
            settle()
        }
    }

    private func moments(
        of map: (Range<Int>) -> FeatureMap, channels: Int, _ stripes: [Range<Int>], on compute: Compute,
        beforeStripe: () throws -> Void
    ) rethrows -> ChannelMoments {
        var moments = ChannelMoments(channels: channels)
        for stripe in stripes {
            try beforeStripe()
            compute.workspace.scope { compute.addMoments(of: map(stripe), to: &moments) }
        }
        return moments
    }

    private func passOn(_ x: FeatureMap, into y: FeatureMap, on compute: Compute) {
        if let shortcut {
            compute.convolve(x, with: shortcut.weights, into: y)
        } else {
            compute.convert(x.tensor, into: y.tensor)
        }
    }
}
