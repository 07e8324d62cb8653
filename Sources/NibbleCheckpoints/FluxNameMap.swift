/// The names of FLUX.1's layers in the original repository (Black Forest Labs, `flux/model.py`) and in diffusers
/// (`FluxTransformer2DModel`), in one table. `*` stands for a block's number.
enum FluxNameMap {
    /// How a layer of the original is made of those of diffusers.
    enum Content {
        /// The same tensors; several names: their rows one below the other, each `hidden` rows, the last one the rest.
        case rows([String])
        /// A norm's gain, which the original calls `scale`.
        case gain(String)
        /// The rows' first half is diffusers' second. The last modulation gives shift and scale, in diffusers scale and
        /// shift.
        case swappedHalves(String)
    }

    /// Where a tensor of diffusers' name comes from.
    struct Origin: Equatable {
        /// Which of the original tensor's rows it is.
        enum Rows: Equatable {
            case all
            case part(Int, of: Int)
            case swappedHalves
        }

        /// The original name, with the file's prefix.
        let name: String
        /// Its rows.
        let rows: Rows
    }

    /// Prefixes under which single files keep the transformer: none, and that of files that hold a whole pipeline.
    static let prefixes = ["", "model.diffusion_model."]

    /// The layer whose rows tell the hidden size.
    static let inputLayer = "img_in.weight"

    private static let layers: [String: Content] = {
        let double = "transformer_blocks.*"
        let single = "single_transformer_blocks.*"
        var layers: [String: Content] = [
            "img_in": .rows(["x_embedder"]),
            "txt_in": .rows(["context_embedder"]),
            "single_blocks.*.modulation.lin": .rows(["\(single).norm.linear"]),
            "single_blocks.*.linear1": .rows(
                ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"].map { "\(single).\($0)" }),
            "single_blocks.*.linear2": .rows(["\(single).proj_out"]),
            "single_blocks.*.norm.query_norm": .gain("\(single).attn.norm_q"),
            "single_blocks.*.norm.key_norm": .gain("\(single).attn.norm_k"),
            "final_layer.linear": .rows(["proj_out"]),
            "final_layer.adaLN_modulation.1": .swappedHalves("norm_out.linear"),
        ]
        for (original, name) in [
            ("time_in", "timestep_embedder"), ("vector_in", "text_embedder"), ("guidance_in", "guidance_embedder"),
        ] {
            layers["\(original).in_layer"] = .rows(["time_text_embed.\(name).linear_1"])
            layers["\(original).out_layer"] = .rows(["time_text_embed.\(name).linear_2"])
        }
        for (stream, norm, qkv, output, feedForward, gain) in [
            ("img", "norm1", ["to_q", "to_k", "to_v"], "to_out.0", "ff", "norm"),
            (
                "txt", "norm1_context", ["add_q_proj", "add_k_proj", "add_v_proj"], "to_add_out", "ff_context",
                "norm_added"
            ),
        ] {
            let block = "double_blocks.*.\(stream)"
            layers["\(block)_mod.lin"] = .rows(["\(double).\(norm).linear"])
            layers["\(block)_attn.qkv"] = .rows(qkv.map { "\(double).attn.\($0)" })
            layers["\(block)_attn.proj"] = .rows(["\(double).attn.\(output)"])
            layers["\(block)_attn.norm.query_norm"] = .gain("\(double).attn.\(gain)_q")
            layers["\(block)_attn.norm.key_norm"] = .gain("\(double).attn.\(gain)_k")
            layers["\(block)_mlp.0"] = .rows(["\(double).\(feedForward).net.0.proj"])
            layers["\(block)_mlp.2"] = .rows(["\(double).\(feedForward).net.2"])
        }
        return layers
    }()

    /// The prefix of a file in the original names; nil for other files.
    static func prefix(of names: Set<String>) -> String? {
        prefixes.first { prefix in
            names.contains(prefix + inputLayer)
                && ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]
                    .contains { names.contains(prefix + $0) }
        }
    }

    /// Diffusers' names for one original name.
    ///
    /// - Parameters:
    ///   - name: the original name without prefix.
    ///   - prefix: the prefix.
    /// - Returns: the names and what they are made of; empty for a name that is not in the table.
    static func diffusersNames(for name: String, prefix: String) -> [(name: String, origin: Origin)] {
        guard let dot = name.lastIndex(of: ".") else { return [] }
        let kind = name[name.index(after: dot)...]
        var parts = name[..<dot].split(separator: ".", omittingEmptySubsequences: false)
        var number: Substring = ""
        if parts.count > 2, ["double_blocks", "single_blocks"].contains(parts[0]), Int(parts[1]) != nil {
            number = parts[1]
            parts[1] = "*"
        }
        guard let content = layers[parts.joined(separator: ".")] else { return [] }
        func named(_ pattern: String, _ kind: Substring) -> String {
            "\(pattern.replacing("*", with: number)).\(kind)"
        }
        let original = prefix + name
        switch content {
        case .rows(let patterns) where kind == "weight" || kind == "bias":
            return patterns.enumerated().map { index, pattern in
                let rows: Origin.Rows = patterns.count == 1 ? .all : .part(index, of: patterns.count)
                return (named(pattern, kind), Origin(name: original, rows: rows))
            }
        case .swappedHalves(let pattern) where kind == "weight" || kind == "bias":
            return [(named(pattern, kind), Origin(name: original, rows: .swappedHalves))]
        case .gain(let pattern) where kind == "scale":
            return [(named(pattern, "weight"), Origin(name: original, rows: .all))]
        default:
            return []
        }
    }
}
