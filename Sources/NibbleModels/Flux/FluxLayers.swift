internal import NibbleCheckpoints
internal import NibbleTensors

/// Where the layers of a FLUX.1 come from: tensors with diffusers' names, or a 4-bit checkpoint with Nunchaku's. Each
/// layer of a block is asked for under both names.
struct FluxLayers: Sendable {
    /// The tensors that are not quantized; those outside of the blocks have the same names in both.
    let weights: WeightReader
    private let quantized: NunchakuCheckpoint?
    private let prefix: String

    /// Layers of a checkpoint with diffusers' names.
    init(_ weights: WeightReader) {
        self.init(weights, nil, prefix: "")
    }

    /// Layers of a 4-bit checkpoint.
    init(_ checkpoint: NunchakuCheckpoint) {
        self.init(WeightReader(checkpoint), checkpoint, prefix: "")
    }

    private init(_ weights: WeightReader, _ quantized: NunchakuCheckpoint?, prefix: String) {
        self.weights = weights
        self.quantized = quantized
        self.prefix = prefix
    }

    /// The layers of a block.
    subscript(name: String, index: Int) -> FluxLayers {
        FluxLayers(weights[name, index], quantized, prefix: "\(prefix)\(name).\(index).")
    }

    /// A layer.
    ///
    /// - Parameters:
    ///   - name: diffusers'.
    ///   - quantizedName: Nunchaku's.
    ///   - input: channels.
    ///   - output: channels.
    /// - Returns: the kind that the checkpoint holds.
    /// - Throws: `CheckpointError`.
    func linear(
        _ name: String, or quantizedName: String, input: Int, output: Int
    ) throws(CheckpointError) -> any LinearLayer {
        if let quantized { return try QuantizedLinear(layer(quantizedName), of: quantized) }
        return try Linear(weights[name], input: input, output: output)
    }

    /// Layers of one input whose outputs lie side by side; one in a 4-bit checkpoint. Parameters as in `linear`, with
    /// the outputs of each of diffusers' layers.
    func linears(
        _ names: [String], or quantizedName: String, input: Int, output: Int
    ) throws(CheckpointError) -> [any LinearLayer] {
        if let quantized { return [try QuantizedLinear(layer(quantizedName), of: quantized)] }
        var layers: [any LinearLayer] = []
        for name in names { layers.append(try Linear(weights[name], input: input, output: output)) }
        return layers
    }

    /// A layer whose inputs lie side by side; two in a 4-bit checkpoint, whose outputs are added.
    ///
    /// - Parameters:
    ///   - name: diffusers'.
    ///   - quantizedNames: Nunchaku's, one for each part of the input.
    ///   - inputs: channels of the parts.
    ///   - output: channels.
    /// - Returns: layers and the columns of the input that each reads.
    /// - Throws: `CheckpointError`.
    func summed(
        _ name: String, or quantizedNames: [String], inputs: [Int], output: Int
    ) throws(CheckpointError) -> [(layer: any LinearLayer, columns: Range<Int>)] {
        let whole = inputs.reduce(0, +)
        guard let quantized else { return [(try Linear(weights[name], input: whole, output: output), 0..<whole)] }
        var parts: [(layer: any LinearLayer, columns: Range<Int>)] = []
        var first = 0
        for (quantizedName, width) in zip(quantizedNames, inputs) {
            parts.append((try QuantizedLinear(layer(quantizedName), of: quantized), first..<first + width))
            first += width
        }
        return parts
    }

    /// The layer of a modulation, of the same name in both.
    func modulation(_ name: String, input: Int, output: Int) throws(CheckpointError) -> any LinearLayer {
        if let quantized { return try QuantizedRowLinear(layer("\(name).linear"), of: quantized) }
        return try Linear(weights[name]["linear"], input: input, output: output)
    }

    /// The gain of a norm of heads: below the attention in diffusers, in the block itself in a 4-bit checkpoint.
    func headNorm(_ name: String, _ headDim: Int) throws(CheckpointError) -> Tensor {
        try (quantized == nil ? weights["attn"] : weights)[name].vector("weight", headDim)
    }

    /// Throws when the checkpoint holds tensors that no network asked for. A 4-bit one was compared when it was opened.
    func checkNothingIsLeftOver() throws(CheckpointError) {
        if quantized == nil { try weights.checkNothingIsLeftOver() }
    }

    private func layer(_ name: String) throws(CheckpointError) -> Int4Layer {
        let full = prefix + name
        guard let layer = quantized?.layers.first(where: { $0.name == full }) else {
            throw .missingTensor(path: weights.location, name: full)
        }
        return layer
    }
}
