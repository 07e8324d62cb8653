internal import NibbleTensors

/// Layers applied to a picture of one size: which of them work in stripes, and where in memory their results lie.
///
/// Three slots suffice: a layer reads one and writes the other of two, and the third holds what is between the
/// convolutions of a resnet block; a block that keeps the number of channels writes into the slot that it reads.
struct FeaturePlan {
    struct Step {
        let layer: FeatureLayer
        let name: String?
        /// A resnet block in stripes may read the rows of a picture that is made twice as large on the way.
        var doubling: Convolution?
        /// Rows of a stripe of a resnet block; nil: the whole picture at once.
        var stripeRows: Int?
        let input, output: FeatureExtent
        /// The slot of the result; nil: the result of the whole.
        var slot: Int?
        /// The slot for what arises between input and result.
        var roomSlot = FeaturePlan.hiddenSlot
    }

    private(set) var steps: [Step] = []
    private var slotBytes = [0, 0, 0]
    private var workBytes = 0
    private let resultBytes: Int

    fileprivate static let hiddenSlot = 2

    /// Bytes of all activations at once, the result included.
    var byteCount: Int { slotBytes.reduce(0, +) + workBytes + resultBytes }

    /// - Parameters:
    ///   - layers: one or more, the last of them no resnet block.
    ///   - input: what the first layer reads.
    ///   - stripedFrom: pixels from which on resnet blocks work in stripes.
    ///   - stripeRows: rows of a stripe of a picture as high as the input.
    ///   - compute: what will compute it.
    init(
        _ layers: [NamedLayer], input: FeatureExtent, stripedFrom: Int = .max, stripeRows: Int = 0, on compute: Compute
    ) {
        var x = input
        var doubling: (convolution: Convolution, input: FeatureExtent)?
        for (index, named) in layers.enumerated() {
            let output = named.layer.extent(after: x)
            let rows = Self.stripeRows(output, input: input, stripeRows: stripeRows)
            let isStriped = output.pixels >= stripedFrom && rows < output.height
            if case .doubling(let convolution) = named.layer, isStriped, index + 1 < layers.count,
                case .resnet = layers[index + 1].layer
            {
                doubling = (convolution, x)
            } else {
                var step = Step(layer: named.layer, name: named.name, input: doubling?.input ?? x, output: output)
                step.doubling = doubling?.convolution
                if case .resnet = named.layer, isStriped { step.stripeRows = rows }
                doubling = nil
                steps.append(step)
            }
            x = output
        }
        resultBytes = x.elements * DType.float32.byteSize
        placeResults(on: compute)
    }

    /// A stripe ends where a band does, so that statistics are summed as those of the whole picture are.
    private static func stripeRows(_ x: FeatureExtent, input: FeatureExtent, stripeRows: Int) -> Int {
        let wanted = min(max(1, stripeRows), input.height) * (x.height / max(1, input.height))
        let band = FeatureMap.bandHeight(height: x.height, width: x.width)
        return (wanted + band - 1) / band * band
    }

    private mutating func placeResults(on compute: Compute) {
        let size = compute.featureType.byteSize
        // The input lies outside; the first result goes to slot 0.
        var slot = 1
        for index in steps.indices {
            let step = steps[index]
            var isInPlace = false
            switch step.layer {
            case .attention:
                isInPlace = true
                // The slot of the layer before the input, and of the next: now it holds nothing.
                steps[index].roomSlot = 1 - slot
                slotBytes[1 - slot] = max(slotBytes[1 - slot], PixelAttention.roomBytes(step.output, on: compute))
            case .resnet(let block):
                isInPlace = block.isInPlace && step.doubling == nil && index > 0
                if step.stripeRows == nil {
                    slotBytes[Self.hiddenSlot] = max(slotBytes[Self.hiddenSlot], step.output.elements * size)
                }
            case .convolution, .doubling, .output: break
            }
            workBytes = max(workBytes, step.workBytes(on: compute))
            if index == steps.count - 1 { break }
            if !isInPlace { slot = 1 - slot }
            slotBytes[slot] = max(slotBytes[slot], step.output.elements * size)
            steps[index].slot = slot
        }
    }

    /// Applies the layers.
    ///
    /// - Parameters:
    ///   - input: the whole input.
    ///   - compute: that of the plan, or one alike.
    ///   - beforeBlock: called before each layer and each stripe; may throw to give up.
    /// - Returns: the last layer's result, f32, in memory of its own.
    func run(
        _ input: FeatureMap, on compute: Compute, beforeBlock: () throws -> Void
    ) rethrows -> FeatureMap {
        let workspace = compute.workspace
        return try workspace.scope {
            let slots = slotBytes.map { workspace.tensor([$0], .uint8) }
            // Asked for in one piece now, the memory of all steps lies in the same place.
            workspace.scope { _ = workspace.tensor([workBytes], .uint8) }
            var x = input
            for step in steps {
                try beforeBlock()
                let extent = step.output
                let y =
                    step.slot.map { compute.features(extent, in: slots[$0]) }
                    ?? FeatureMap(
                        Tensor(zeros: [extent.pixels, extent.channels], .float32), height: extent.height,
                        width: extent.width)
                try step.apply(
                    to: x, into: y, room: slots[step.roomSlot], on: compute, beforeStripe: beforeBlock)
                if let name = step.name { compute.observe(name, y.tensor) }
                x = y
            }
            return x
        }
    }
}

extension FeaturePlan.Step {
    fileprivate func apply(
        to x: FeatureMap, into y: FeatureMap, room: Tensor, on compute: Compute,
        beforeStripe: () throws -> Void
    ) rethrows {
        switch layer {
        case .convolution(let convolution):
            compute.convolve(x, with: convolution.weights, into: y)
        case .doubling(let convolution):
            compute.convolve(x, .doubled, with: convolution.weights, into: y)
        case .attention(let attention):
            attention(x, room: room, on: compute)
        case .output(let norm, let convolution, let name):
            let scale = norm.scale(of: x, on: compute)
            if compute.observer != nil {
                compute.workspace.scope {
                    let normalized = compute.workspace.tensor(x.tensor.shape, .float32)
                    compute.scale(x.tensor, by: scale, into: normalized)
                    compute.observe(name, normalized)
                }
            }
            compute.convolve(x, .scaledSiLU(scale), with: convolution.weights, into: y)
        case .resnet(let block):
            guard let stripeRows else {
                return block(x, hidden: compute.features(output, in: room), into: y, on: compute)
            }
            let stripes = stride(from: 0, to: y.height, by: stripeRows).map { $0..<min($0 + stripeRows, y.height) }
            func rows(_ range: Range<Int>) -> FeatureMap {
                guard let doubling else { return x.slice(range) }
                let rows = compute.features(
                    doubling.weights.output, height: y.height, width: y.width, rows: range)
                compute.convolve(x, .doubled, with: doubling.weights, into: rows)
                return rows
            }
            try block.inStripes(
                rows, into: y, overwrites: x.tensor.address == y.tensor.address, stripes: stripes, on: compute,
                beforeStripe: beforeStripe)
        }
    }

    /// What the step takes from the workspace beside the slots.
    fileprivate func workBytes(on compute: Compute) -> Int {
        func convolution(_ geometry: ConvolutionGeometry, _ input: Int) -> Int {
            compute.convolutionMemory(
                geometry, input: input, output: output.channels, height: output.height, width: output.width)
        }
        switch layer {
        case .convolution(let layer), .doubling(let layer), .output(_, let layer, _):
            return convolution(layer.weights.geometry, layer.weights.input)
        case .attention:
            return PixelAttention.workBytes(output, on: compute)
        case .resnet(let block):
            var bytes = convolution(.same, max(block.input, block.output, doubling?.weights.input ?? 0))
            if let stripeRows {
                // The input with two rows above and below if it is made here, the middle with one, the stripe held back.
                let made = doubling == nil ? 0 : (stripeRows + 4) * block.input
                bytes +=
                    (made + (stripeRows + 2) * block.output + stripeRows * block.output) * output.width
                    * compute.featureType.byteSize
            }
            return bytes
        }
    }
}
