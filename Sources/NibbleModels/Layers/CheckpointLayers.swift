internal import NibbleCheckpoints
internal import NibbleTensors

/// Where the layers of a transformer or of T5 come from: tensors with diffusers' or transformers' names, or a 4-bit
/// checkpoint, which may have joined some of them. Each layer of a block is asked for under both names.
struct CheckpointLayers: Sendable {
    /// The tensors that are not quantized; those outside of the blocks have the same names in all.
    let weights: WeightReader
    private let quantized: Quantized?
    private let prefix: String

    private struct Quantized: Sendable {
        let checkpoint: any Int4Checkpoint
        let layers: [String: Int4Layer]
        let pool: ThreadPool
    }

    /// Whether the blocks' layers have 4-bit weights.
    var areQuantized: Bool { quantized != nil }

    /// Layers of a checkpoint with diffusers' names.
    init(_ weights: WeightReader) {
        self.init(weights, nil, prefix: "")
    }

    /// Layers of a 4-bit checkpoint.
    ///
    /// - Parameters:
    ///   - checkpoint: where they are.
    ///   - pool: the threads that bring them into the kernels' order, where they do not lie in it.
    init(_ checkpoint: any Int4Checkpoint, on pool: ThreadPool) {
        let layers = Dictionary(checkpoint.layers.map { ($0.name, $0) }) { first, _ in first }
        self.init(
            WeightReader(checkpoint), Quantized(checkpoint: checkpoint, layers: layers, pool: pool), prefix: "")
    }

    private init(_ weights: WeightReader, _ quantized: Quantized?, prefix: String) {
        self.weights = weights
        self.quantized = quantized
        self.prefix = prefix
    }

    /// The layers below a name, as those of a block.
    subscript(name: String, index: Int? = nil) -> CheckpointLayers {
        CheckpointLayers(
            weights[name, index], quantized, prefix: "\(prefix)\(name)." + (index.map { "\($0)." } ?? ""))
    }

    /// A layer.
    ///
    /// - Parameters:
    ///   - name: that of 16-bit weights.
    ///   - quantizedName: that of a 4-bit checkpoint; nil: the same.
    ///   - input: channels.
    ///   - output: channels.
    ///   - bias: whether it has one.
    /// - Returns: the kind that the checkpoint holds.
    /// - Throws: `CheckpointError`.
    func linear(
        _ name: String, or quantizedName: String? = nil, input: Int, output: Int, bias: Bool = true
    ) throws(CheckpointError) -> any LinearLayer {
        for known in [quantizedName, name].compactMap({ $0 }) {
            if let layer = try quantizedLinear(known, input: input, output: output) { return layer }
        }
        return try Linear(weights[name], input: input, output: output, bias: bias)
    }

    /// Layers of one input whose outputs lie side by side; one where the checkpoint has joined them. Parameters as in `linear`, with the
    /// outputs of each of the separate layers.
    func linears(
        _ names: [String], or quantizedName: String, input: Int, output: Int, bias: Bool = true
    ) throws(CheckpointError) -> [any LinearLayer] {
        if let fused = try quantizedLinear(quantizedName, input: input, output: names.count * output) { return [fused] }
        var layers: [any LinearLayer] = []
        for name in names { layers.append(try linear(name, input: input, output: output, bias: bias)) }
        return layers
    }

    /// The two layers of a gated feed-forward that read its input, without biases.
    ///
    /// - Parameters:
    ///   - gate: the name of that which the activation is for.
    ///   - up: the name of the other.
    ///   - quantizedName: of the one that both are in a 4-bit checkpoint.
    ///   - input: channels.
    ///   - output: channels of each.
    ///   - activation: the gate's.
    /// - Returns: what the checkpoint holds.
    /// - Throws: `CheckpointError`; `.wrongConfiguration` for an activation that 4-bit layers do not know.
    func gated(
        gate: String, up: String, or quantizedName: String, input: Int, output: Int, activation: Activation
    ) throws(CheckpointError) -> GatedProjection {
        guard let joined = try quantizedLinear(quantizedName, input: input, output: 2 * output) else {
            return .separate(
                gate: try linear(gate, input: input, output: output, bias: false),
                up: try linear(up, input: input, output: output, bias: false))
        }
        guard activation == .geluTanh else {
            throw .wrongConfiguration(
                path: weights.location, key: "dense_act_fn", found: "\(activation)",
                expected: "gelu_new: 4-bit layers know no other")
        }
        return .joined(joined)
    }

    /// A layer whose inputs lie side by side; two in Nunchaku's cut, whose outputs are added.
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
        var parts: [(layer: any LinearLayer, columns: Range<Int>)] = []
        var first = 0
        for (quantizedName, width) in zip(quantizedNames, inputs) {
            guard let layer = try quantizedLinear(quantizedName, input: width, output: output) else { break }
            parts.append((layer, first..<first + width))
            first += width
        }
        let whole = inputs.reduce(0, +)
        return parts.isEmpty ? [(try linear(name, input: whole, output: output), 0..<whole)] : parts
    }

    /// The layer of a modulation, of the same name in all.
    func modulation(_ name: String, input: Int, output: Int) throws(CheckpointError) -> any LinearLayer {
        guard let (quantized, layer) = try layer("\(name).linear", input: input, output: output) else {
            return try Linear(weights[name]["linear"], input: input, output: output)
        }
        let packed = try quantized.checkpoint.packedModulation(layer, on: quantized.pool)
        try quantized.checkpoint.release(layer)
        weights.remember(packed.large, of: "\(name).linear")
        return QuantizedRowLinear(packed.quantizedWeights)
    }

    /// The gain of a norm of heads: below the attention in diffusers, in the block itself in Nunchaku's cut.
    func headNorm(_ name: String, _ headDim: Int) throws(CheckpointError) -> Tensor {
        let isInBlock = quantized?.checkpoint.structure == .nunchaku
        return try (isInBlock ? weights : weights["attn"])[name].vector("weight", headDim)
    }

    /// Throws when the checkpoint holds tensors that no network asked for. A 4-bit one was compared when it was opened.
    func checkNothingIsLeftOver(ignoring: (String) -> Bool = { _ in false }) throws(CheckpointError) {
        if quantized == nil { try weights.checkNothingIsLeftOver(ignoring: ignoring) }
    }

    private func quantizedLinear(
        _ name: String, input: Int, output: Int
    ) throws(CheckpointError) -> QuantizedLinear? {
        guard let (quantized, layer) = try layer(name, input: input, output: output) else { return nil }
        let packed = try quantized.checkpoint.packed(layer, on: quantized.pool)
        try quantized.checkpoint.release(layer)
        weights.remember(packed.large, of: name)
        return QuantizedLinear(
            packed.quantizedWeights(inputCodes: layer.inputCodes), bits: layer.takesEightBits ? .int8 : nil)
    }

    /// A quantized layer of this block; nil if there is none of that name.
    private func layer(
        _ name: String, input: Int, output: Int
    ) throws(CheckpointError) -> (Quantized, Int4Layer)? {
        guard let quantized, let layer = quantized.layers[prefix + name] else { return nil }
        guard layer.inputs == input, layer.outputs == output else {
            throw .wrongShape(
                path: weights.location, name: layer.name, found: [layer.outputs, layer.inputs],
                expected: [output, input])
        }
        return (quantized, layer)
    }
}
