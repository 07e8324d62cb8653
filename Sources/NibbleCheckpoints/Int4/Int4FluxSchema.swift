internal import NibbleTensors

/// Every tensor of a FLUX.1 whose blocks' layers are quantized.
struct Int4FluxSchema {
    /// The layers with 4-bit weights, block by block.
    let layers: [Int4Layer]
    /// The tensors that are not quantized, with their shapes.
    let plain: [(name: String, shape: Shape)]

    /// The list of Nunchaku's structure.
    init(_ sizes: Int4FluxSizes) {
        let hidden = sizes.hidden
        let mlp = 4 * hidden
        var layers: [Int4Layer] = []
        var plain: [(name: String, shape: Shape)] = []
        func quantized(_ name: String, _ outputs: Int, _ inputs: Int, unsigned: Bool = false) {
            layers.append(
                Int4Layer(name: name, kind: .w4a4(isUnsigned: unsigned), outputs: outputs, inputs: inputs))
        }
        func modulation(_ name: String, splits: Int) {
            layers.append(
                Int4Layer(name: name, kind: .w4a16(splits: splits), outputs: splits * hidden, inputs: hidden))
        }
        for block in 0..<sizes.doubleBlocks {
            let prefix = "transformer_blocks.\(block)."
            modulation(prefix + "norm1.linear", splits: 6)
            modulation(prefix + "norm1_context.linear", splits: 6)
            for (attention, feedForward) in [("", "mlp_"), ("_context", "mlp_context_")] {
                quantized(prefix + "qkv_proj" + attention, 3 * hidden, hidden)
                quantized(prefix + "out_proj" + attention, hidden, hidden)
                quantized(prefix + feedForward + "fc1", mlp, hidden)
                quantized(prefix + feedForward + "fc2", hidden, mlp, unsigned: true)
            }
            for norm in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
                plain.append(("\(prefix)\(norm).weight", [sizes.headDim]))
            }
        }
        for block in 0..<sizes.singleBlocks {
            let prefix = "single_transformer_blocks.\(block)."
            modulation(prefix + "norm.linear", splits: 3)
            quantized(prefix + "qkv_proj", 3 * hidden, hidden)
            quantized(prefix + "out_proj", hidden, hidden)
            quantized(prefix + "mlp_fc1", mlp, hidden)
            quantized(prefix + "mlp_fc2", hidden, mlp, unsigned: true)
            for norm in ["norm_q", "norm_k"] { plain.append(("\(prefix)\(norm).weight", [sizes.headDim])) }
        }
        self.layers = layers
        self.plain = plain + Self.unquantizedTensors(sizes)
    }

    /// The list of diffusers' structure.
    ///
    /// - Parameters:
    ///   - sizes: the model's.
    ///   - kind: how one of the blocks' layers is quantized; nil: it is not.
    /// - Throws: what `kind` throws.
    init(
        _ sizes: Int4FluxSizes, kind: (_ name: String, _ isModulation: Bool) throws(CheckpointError) -> Int4Layer.Kind?
    ) throws(CheckpointError) {
        var layers: [Int4Layer] = []
        var plain: [(name: String, shape: Shape)] = []
        func block(
            _ prefix: String, _ linears: [(name: String, outputs: Int, inputs: Int)], norms: [String]
        ) throws(CheckpointError) {
            for linear in linears {
                let name = prefix + linear.name
                let (outputs, inputs) = (linear.outputs * sizes.hidden, linear.inputs * sizes.hidden)
                if let kind = try kind(name, linear.name.hasPrefix("norm")) {
                    layers.append(Int4Layer(name: name, kind: kind, outputs: outputs, inputs: inputs))
                } else {
                    plain += [("\(name).weight", [outputs, inputs]), ("\(name).bias", [outputs])]
                }
            }
            plain += norms.map { ("\(prefix)attn.\($0).weight", [sizes.headDim]) }
        }
        for index in 0..<sizes.doubleBlocks {
            try block(
                "transformer_blocks.\(index).", Self.doubleLinears,
                norms: ["norm_q", "norm_k", "norm_added_q", "norm_added_k"])
        }
        for index in 0..<sizes.singleBlocks {
            try block("single_transformer_blocks.\(index).", Self.singleLinears, norms: ["norm_q", "norm_k"])
        }
        self.layers = layers
        self.plain = plain + Self.unquantizedTensors(sizes)
    }

    /// Diffusers' layers of a block, with outputs and inputs in multiples of the hidden size.
    private static let doubleLinears: [(name: String, outputs: Int, inputs: Int)] =
        [("norm1.linear", 6, 1), ("norm1_context.linear", 6, 1)]
        + ["attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]
        .map { ($0, 1, 1) }
        + [("attn.to_out.0", 1, 1), ("attn.to_add_out", 1, 1)]
        + [("ff.net.0.proj", 4, 1), ("ff.net.2", 1, 4), ("ff_context.net.0.proj", 4, 1), ("ff_context.net.2", 1, 4)]

    private static let singleLinears: [(name: String, outputs: Int, inputs: Int)] = [
        ("norm.linear", 3, 1), ("attn.to_q", 1, 1), ("attn.to_k", 1, 1), ("attn.to_v", 1, 1), ("proj_mlp", 4, 1),
        ("proj_out", 1, 5),
    ]

    /// The tensors outside of the blocks.
    private static func unquantizedTensors(_ sizes: Int4FluxSizes) -> [(name: String, shape: Shape)] {
        unquantizedLayers(sizes).flatMap { name, outputs, inputs in
            [("\(name).weight", Shape([outputs, inputs])), ("\(name).bias", Shape([outputs]))]
        }
    }

    /// Name, outputs and inputs of the linear layers outside of the blocks.
    private static func unquantizedLayers(_ sizes: Int4FluxSizes) -> [(String, Int, Int)] {
        let hidden = sizes.hidden
        // The sinusoids of timestep and guidance have 256 channels in every FLUX.1.
        var embedders = [("timestep_embedder", 256), ("text_embedder", sizes.pooledProjectionDim)]
        if sizes.guidanceEmbeds { embedders.append(("guidance_embedder", 256)) }
        return [
            ("x_embedder", hidden, sizes.inChannels), ("context_embedder", hidden, sizes.jointAttentionDim),
            ("norm_out.linear", 2 * hidden, hidden), ("proj_out", sizes.outChannels, hidden),
        ]
            + embedders.flatMap { name, inputs in
                [
                    ("time_text_embed.\(name).linear_1", hidden, inputs),
                    ("time_text_embed.\(name).linear_2", hidden, hidden),
                ]
            }
    }
}
