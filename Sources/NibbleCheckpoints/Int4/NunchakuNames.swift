/// The names of a FLUX.1's tensors in Nunchaku's files: those of its C++ engine, and those of its Python models (from
/// version 1.0), which follow diffusers.
enum NunchakuNames {
    /// Python's names of layers, behind the block's number, and the engine's.
    private static let doubleLayers = [
        "attn.to_qkv": "qkv_proj", "attn.add_qkv_proj": "qkv_proj_context", "attn.to_out.0": "out_proj",
        "attn.to_add_out": "out_proj_context", "ff.net.0.proj": "mlp_fc1", "ff.net.2": "mlp_fc2",
        "ff_context.net.0.proj": "mlp_context_fc1", "ff_context.net.2": "mlp_context_fc2", "attn.norm_q": "norm_q",
        "attn.norm_k": "norm_k", "attn.norm_added_q": "norm_added_q", "attn.norm_added_k": "norm_added_k",
    ]

    private static let singleLayers = [
        "attn.to_qkv": "qkv_proj", "attn.to_out": "out_proj", "attn.norm_q": "norm_q", "attn.norm_k": "norm_k",
    ]

    /// Python's keys of a layer's tensors, and the engine's.
    private static let keys = [
        "proj_down": "lora_down", "proj_up": "lora_up", "smooth_factor": "smooth",
        "smooth_factor_orig": "smooth_orig",
    ]

    /// The engine's name of a tensor; names that are the same in both, and unknown ones, are unchanged.
    static func engineName(_ name: String) -> String {
        for (list, layers) in [("transformer_blocks.", doubleLayers), ("single_transformer_blocks.", singleLayers)]
        where name.hasPrefix(list) {
            let rest = name.dropFirst(list.count)
            guard let dot = rest.firstIndex(of: "."), let last = rest.lastIndex(of: "."), dot < last else {
                return name
            }
            let layer = String(rest[rest.index(after: dot)..<last])
            let key = String(rest[rest.index(after: last)...])
            return "\(list)\(rest[..<dot]).\(layers[layer] ?? layer).\(keys[key] ?? key)"
        }
        return name
    }
}
