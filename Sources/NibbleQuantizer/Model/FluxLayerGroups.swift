internal import NibbleCheckpoints
internal import NibbleTensors

/// The layers of one block of a FLUX.1 and what they are made of.
struct FluxBlockLayers {
    /// Layers that read one input.
    struct Group {
        let layers: [Int4Layer]
        /// What the observer knows their input by, behind the block's name.
        let input: String
    }

    /// Layers that are quantized with their inputs.
    let groups: [Group]
    /// The modulations.
    let modulations: [Int4Layer]

    /// Layers that share an input, by the ends of their names, and what the observer knows the input by.
    private static let doubleGroups = [
        (["qkv_proj"], "norm1.x"), (["qkv_proj_context"], "norm1_context.x"), (["out_proj"], "out_proj.x"),
        (["out_proj_context"], "out_proj_context.x"), (["mlp_fc1"], "mlp_fc1.x"), (["mlp_fc2"], "mlp_fc2.x"),
        (["mlp_context_fc1"], "mlp_context_fc1.x"), (["mlp_context_fc2"], "mlp_context_fc2.x"),
    ]

    /// An engine that quantizes the input once for both of the first two needs one vector of factors for both.
    private static let singleGroups = [
        (["qkv_proj", "mlp_fc1"], "norm.x"), (["out_proj"], "attn"), (["mlp_fc2"], "mlp_fc2.x"),
    ]

    /// - Parameters:
    ///   - layers: all layers of the model.
    ///   - prefix: of the block's, such as `transformer_blocks.0.`.
    init(_ layers: [Int4Layer], prefix: String) {
        let own = layers.filter { $0.name.hasPrefix(prefix) }
        let byName = Dictionary(uniqueKeysWithValues: own.map { (String($0.name.dropFirst(prefix.count)), $0) })
        groups = (prefix.hasPrefix("single_") ? Self.singleGroups : Self.doubleGroups).map { names, input in
            Group(layers: names.compactMap { byName[$0] }, input: input)
        }
        modulations = own.filter { if case .w4a16 = $0.kind { true } else { false } }
    }
}

/// The 16-bit weights that 4-bit layers are made of.
struct FluxLayerSources {
    private let source: any TensorSource
    private let parts: [String: [Part]]

    /// A layer of diffusers, or some of its inputs.
    private struct Part {
        let name: String
        /// Where the layer's inputs are among those of diffusers' layer; nil: they are all.
        let columns: Range<Int>?
        /// Whether diffusers' bias belongs to this part.
        let hasBias: Bool
    }

    init(_ source: any TensorSource, layers: [Int4Layer]) {
        self.source = source
        var parts: [String: [Part]] = [:]
        for linear in DiffusersLinear.all(of: layers) {
            guard let second = linear.second else {
                parts[linear.first.name, default: []].append(Part(name: linear.name, columns: nil, hasBias: true))
                continue
            }
            // Two layers whose results are added: the bias goes with the second, as in the published files.
            let border = linear.first.inputs
            parts[linear.first.name] = [Part(name: linear.name, columns: 0..<border, hasBias: false)]
            parts[second.name] = [Part(name: linear.name, columns: border..<linear.inputs, hasBias: true)]
        }
        self.parts = parts
    }

    /// The weights of a layer as views of the mapped file, and its bias in f32.
    func member(_ layer: Int4Layer) throws(CheckpointError) -> LayerGroup.Member {
        var weights: [Tensor] = []
        var bias: [Float] = []
        for part in parts[layer.name] ?? [] {
            let weight = try source.tensor("\(part.name).weight")
            let view = part.columns.map { weight.columns($0) } ?? weight
            weights.append(view)
            let name = "\(part.name).bias"
            bias +=
                part.hasBias && source.tensorNames.contains(name)
                ? try source.tensor(name).floats() : [Float](repeating: 0, count: view.rows)
        }
        return LayerGroup.Member(name: layer.name, weights: weights, bias: Tensor(bias, shape: [bias.count]))
    }
}
