internal import NibbleTensors

/// What network's weights a checkpoint holds, told by its tensors' names, shapes and types.
public enum CheckpointKind: Sendable, Equatable, CustomStringConvertible {
    /// A FLUX.1 transformer, under the names of diffusers or of the original repository.
    case fluxTransformer(FluxDimensions, originalNames: Bool)
    /// A transformer quantized with SVDQuant for Nunchaku.
    case svdQuant(precision: Precision, rank: Int?, modelClass: String?)
    /// A transformer quantized with SVDQuant as diffusers' own loader takes it.
    case nunchakuLite(precision: Precision, rank: Int?)
    /// A transformer quantized with SVDQuant, in the order of this engine's kernels.
    case nibble(rank: Int?)
    /// A T5 encoder quantized in the same order.
    case nibbleT5(rank: Int?)
    /// 4-bit weights with group scales and 16-bit activations (AWQ), as Nunchaku stores T5.
    case awq
    /// Low-rank additions to another checkpoint.
    case lora
    /// CLIP's text tower.
    case clipTextModel(layers: Int)
    /// T5's encoder.
    case t5Encoder(layers: Int)
    /// The autoencoder of latent diffusion, under the names of diffusers or of the original repository.
    case autoencoderKL(originalNames: Bool)
    /// None of these.
    case unknown

    /// The 4-bit number formats of SVDQuant.
    public enum Precision: String, Sendable {
        /// Integers with a 16-bit scale for 64.
        case int4 = "INT4"
        /// E2M1 floats with an FP8 scale for 16.
        case nvfp4 = "NVFP4"
    }

    /// In words.
    public var description: String {
        switch self {
        case .fluxTransformer(let dimensions, let originalNames):
            "FLUX.1 transformer (\(originalNames ? "BFL" : "diffusers") names), "
                + (dimensions.guidanceEmbeds ? "guidance-distilled (dev)" : "without guidance (schnell)")
                + ", \(dimensions.numLayers) double + \(dimensions.numSingleLayers) single blocks"
        case .svdQuant(let precision, let rank, let modelClass):
            "Nunchaku SVDQuant \(precision.rawValue)" + (rank.map { ", rank \($0)" } ?? "")
                + (modelClass.map { " (\($0.printable))" } ?? "")
        case .nunchakuLite(let precision, let rank):
            "Nunchaku Lite SVDQuant \(precision.rawValue)" + (rank.map { ", rank \($0)" } ?? "")
        case .nibble(let rank): "nibble, SVDQuant INT4" + (rank.map { ", rank \($0)" } ?? "")
        case .nibbleT5(let rank): "nibble, T5 encoder, INT4" + (rank.map { ", rank \($0)" } ?? ", no low-rank branch")
        case .awq: "4-bit weights (AWQ)"
        case .lora: "LoRA"
        case .clipTextModel(let layers): "CLIP text model, \(layers) layers"
        case .t5Encoder(let layers): "T5 encoder, \(layers) blocks"
        case .autoencoderKL(let originalNames): "AutoencoderKL (\(originalNames ? "BFL" : "diffusers") names)"
        case .unknown: "unknown"
        }
    }

    /// Recognizes a checkpoint.
    ///
    /// - Parameters:
    ///   - source: the tensors under the names of the file or of diffusers.
    ///   - entries: what the files' headers say of them.
    ///   - metadata: the files' `__metadata__`.
    init(_ source: any TensorSource, entries: [TensorEntry], metadata: [String: String]) {
        let names = source.tensorNames
        if let quantized = Self.quantized(entries, metadata) {
            self = quantized
        } else if names.contains(where: Self.isLoRA) {
            self = .lora
        } else if names.contains("x_embedder.weight"), let dimensions = try? FluxDimensions(of: source) {
            self = .fluxTransformer(dimensions, originalNames: source is OriginalFluxCheckpoint)
        } else if let prefix = Self.clipPrefixes.first(where: {
            names.contains($0 + "embeddings.token_embedding.weight")
        }),
            let layers = Self.count(names, after: prefix + "encoder.layers.")
        {
            self = .clipTextModel(layers: layers)
        } else if names.contains(where: { $0.hasSuffix("block.0.layer.0.SelfAttention.q.weight") }),
            let layers = Self.count(names, after: "encoder.block.")
        {
            self = .t5Encoder(layers: layers)
        } else if names.contains("decoder.conv_in.weight"), names.contains("encoder.conv_in.weight") {
            self = .autoencoderKL(originalNames: names.contains { $0.hasPrefix("decoder.mid.") })
        } else {
            self = .unknown
        }
    }

    /// transformers 5 saves a text model without the first part of its names.
    private static let clipPrefixes = ["text_model.", ""]

    /// Names of PEFT, diffusers, kohya and ComfyUI.
    private static func isLoRA(_ name: String) -> Bool {
        name.hasPrefix("lora_unet_")
            || name.split(separator: ".").contains {
                ["lora", "lora_A", "lora_B", "lora_down", "lora_up"].contains($0)
            }
    }

    private static func quantized(_ entries: [TensorEntry], _ metadata: [String: String]) -> CheckpointKind? {
        if metadata["format"] == NibbleCheckpoint.format {
            let down = entries.first { $0.name.hasSuffix(".down") && $0.shape.rank == 3 }
            let rank = down?.shape[1]
            return metadata[NibbleCheckpoint.componentKey] == nil ? .nibble(rank: rank) : .nibbleT5(rank: rank)
        }
        guard entries.contains(where: { $0.name.hasSuffix(".qweight") }) else { return nil }
        // Nunchaku 1.0 renamed lora_down to proj_down.
        let down = entries.first { $0.name.hasSuffix(".lora_down") || $0.name.hasSuffix(".proj_down") }
        let isSVDQuant = down != nil || metadata["quantization_config"]?.contains("svdquant") == true
        guard isSVDQuant else { return .awq }
        let hasFloatScales = entries.contains { $0.name.hasSuffix(".wscales") && $0.dtype == .float8E4M3 }
        let rank = down.flatMap { $0.shape.rank == 2 ? $0.shape[1] : nil }
        // Fused in every file of Nunchaku's engine.
        if entries.contains(where: { $0.name.hasSuffix(".attn.to_q.qweight") }) {
            return .nunchakuLite(precision: hasFloatScales ? .nvfp4 : .int4, rank: rank)
        }
        return .svdQuant(
            precision: hasFloatScales ? .nvfp4 : .int4, rank: rank, modelClass: metadata["model_class"])
    }

    private static func count(_ names: Set<String>, after prefix: String) -> Int? {
        let numbers = names.filter { $0.hasPrefix(prefix) }.map { $0.dropFirst(prefix.count).prefix { $0 != "." } }
        return numbers.isEmpty ? nil : Set(numbers).count
    }

    /// The weights of the network that a stored tensor stands for, from which a model's size is counted.
    ///
    /// - Parameter entry: the tensor.
    /// - Returns: its elements; in a 4-bit checkpoint two for each byte of codes, and none for scales and low-rank pairs.
    func parameterCount(of entry: TensorEntry) -> Int {
        switch self {
        case .svdQuant, .nunchakuLite, .nibble, .nibbleT5, .awq:
            let part = entry.name.split(separator: ".").last ?? ""
            if part == "qweight" || part == "codes" { return entry.byteRange.count * 2 }
            let isAuxiliary = [
                "wscales", "wzeros", "wtscale", "wcscales", "smooth", "smooth_orig", "smooth_factor",
                "smooth_factor_orig", "lora_down", "lora_up", "proj_down", "proj_up", "scales", "zeros", "down", "up",
            ].contains(String(part))
            return isAuxiliary ? 0 : entry.shape.elementCount
        default:
            return entry.shape.elementCount
        }
    }
}
