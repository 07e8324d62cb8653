/// A linear layer of diffusers' FLUX.1 and where a 4-bit checkpoint has it. In one of Nunchaku's structure that is some
/// outputs of a layer (q, k and v are fused there), or two layers whose outputs are added (a single block's output is
/// split there by its inputs); in one of diffusers' structure a layer of the same name.
public struct DiffusersLinear: Sendable {
    /// Diffusers' name.
    public let name: String
    /// The checkpoint's layer; where there are two, that of the first inputs.
    public let first: Int4Layer
    /// Its outputs.
    public let rows: Range<Int>
    /// The layer of the other inputs.
    public let second: Int4Layer?

    /// Output channels.
    public var outputs: Int { rows.count }
    /// Input channels.
    public var inputs: Int { first.inputs + (second?.inputs ?? 0) }

    /// All quantized layers of a checkpoint.
    static func all(of source: any Int4Checkpoint) -> [DiffusersLinear] {
        switch source.structure {
        case .nunchaku: all(of: source.layers)
        case .diffusers: source.layers.flatMap { parts(of: $0, names: [$0.name]) }
        case .t5: source.layers.flatMap { parts(of: $0, names: Int4T5Names.parts(of: $0.name)) }
        }
    }

    /// Layers that a layer's outputs are shared out among.
    private static func parts(of layer: Int4Layer, names: [String]) -> [DiffusersLinear] {
        let height = layer.outputs / max(names.count, 1)
        return names.enumerated().map { index, name in
            DiffusersLinear(name: name, first: layer, rows: index * height..<(index + 1) * height, second: nil)
        }
    }

    /// What layers of Nunchaku's structure are in diffusers.
    public static func all(of list: [Int4Layer]) -> [DiffusersLinear] {
        let layers = Dictionary(uniqueKeysWithValues: list.map { ($0.name, $0) })
        return list.flatMap { layer -> [DiffusersLinear] in
            let names = names(of: layer)
            if names.isEmpty, layer.name.hasSuffix(".out_proj") {
                let block = layer.name.dropLast("out_proj".count)
                return [
                    DiffusersLinear(
                        name: "\(block)proj_out", first: layer, rows: 0..<layer.outputs,
                        second: layers["\(block)mlp_fc2"])
                ]
            }
            return parts(of: layer, names: names)
        }
    }

    /// Diffusers' layers that a layer's rows are made of; none for the two halves of a single block's `proj_out`.
    private static func names(of layer: Int4Layer) -> [String] {
        guard let dot = layer.name.lastIndex(of: "."), case .w4a4 = layer.kind else { return [layer.name] }
        let (block, part) = (layer.name[...dot], layer.name[layer.name.index(after: dot)...])
        let isSingle = block.hasPrefix("single_")
        let names: [String] =
            switch part {
            case "qkv_proj": ["attn.to_q", "attn.to_k", "attn.to_v"]
            case "qkv_proj_context": ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]
            case "out_proj": isSingle ? [] : ["attn.to_out.0"]
            case "out_proj_context": ["attn.to_add_out"]
            case "mlp_fc1": [isSingle ? "proj_mlp" : "ff.net.0.proj"]
            case "mlp_fc2": isSingle ? [] : ["ff.net.2"]
            case "mlp_context_fc1": ["ff_context.net.0.proj"]
            case "mlp_context_fc2": ["ff_context.net.2"]
            default: []
            }
        return names.map { block + $0 }
    }

    /// Diffusers' name of a tensor that is not quantized: the norms of heads belong to the attention there.
    public static func name(plain name: String, of structure: Int4Structure) -> String {
        structure == .nunchaku && name.contains("transformer_blocks.")
            ? name.replacing(".norm_", with: ".attn.norm_") : name
    }
}
