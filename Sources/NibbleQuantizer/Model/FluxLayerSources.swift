internal import NibbleCheckpoints
internal import NibbleTensors

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
