public import NibbleTensors

/// A layer with 4-bit weights, as a Nunchaku checkpoint of a FLUX.1 has it.
public struct Int4Layer: Sendable, Hashable {
    /// How it computes.
    public enum Kind: Sendable, Hashable {
        /// 4-bit weights with a low-rank branch, and inputs quantized as they come; without sign behind a GELU.
        case w4a4(isUnsigned: Bool)
        /// 4-bit weights and 16-bit inputs: a modulation, whose outputs are `splits` vectors.
        case w4a16(splits: Int)
    }

    /// Its name without the tensors' keys, such as `transformer_blocks.0.qkv_proj`.
    public let name: String
    /// How it computes.
    public let kind: Kind
    /// Output channels.
    public let outputs: Int
    /// Input channels.
    public let inputs: Int

    /// What is added to the input before it is quantized without sign: a little more than the least value of GELU,
    /// -0.16997; 11/64 is exact in bfloat16.
    public static let unsignedShift: Float = 0.171875

    /// What is added to this layer's input before it is quantized.
    public var shift: Float { kind == .w4a4(isUnsigned: true) ? Self.unsignedShift : 0 }

    /// The tensors of the layer in Nunchaku's order.
    ///
    /// - Parameters:
    ///   - rank: of the low-rank pair; without effect for a modulation.
    ///   - dtype: the type of all that are not codes.
    /// - Returns: types and shapes, by key.
    func tensors(rank: Int, _ dtype: DType = .bfloat16) -> [String: (dtype: DType, shape: Shape)] {
        switch kind {
        case .w4a4:
            return [
                "qweight": (.int8, [outputs, inputs / 2]), "wscales": (dtype, [inputs / 64, outputs]),
                "smooth": (dtype, [inputs]), "smooth_orig": (dtype, [inputs]), "lora_down": (dtype, [inputs, rank]),
                "lora_up": (dtype, [outputs, rank]), "bias": (dtype, [outputs]),
            ]
        case .w4a16:
            let groups = ModulationLayout.storedGroups(inputs: inputs)
            return [
                "qweight": (.int32, [outputs / 4, inputs / 2]), "wscales": (dtype, [groups, outputs]),
                "wzeros": (dtype, [groups, outputs]), "bias": (dtype, [outputs]),
            ]
        }
    }
}

/// Every tensor of a FLUX.1 in Nunchaku's format.
public struct Int4FluxSchema: Sendable {
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// The tensors that are not quantized, with their shapes.
    public let plain: [(name: String, shape: Shape)]

    /// The list for a model.
    ///
    /// - Parameters:
    ///   - configuration: the text of diffusers' `config.json`.
    ///   - path: where it comes from, for errors.
    /// - Throws: `CheckpointError.wrongConfiguration`, for another model's and for widths that Nunchaku's layers cannot
    ///   have.
    public init(configuration: String, path: String) throws(CheckpointError) {
        let sizes = try NunchakuMetadata.sizes(configuration, path: path)
        guard sizes.hidden.isMultiple(of: NunchakuLayout.tileRows) else {
            throw .wrongConfiguration(
                path: path, key: "num_attention_heads", found: "\(sizes.heads) heads of \(sizes.headDim)",
                expected: "a multiple of \(NunchakuLayout.tileRows) channels: Nunchaku's layers have no others")
        }
        self.init(sizes)
    }

    /// The list for a model's sizes.
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
        for (name, outputs, inputs) in Self.unquantizedLayers(sizes) {
            plain.append((name + ".weight", [outputs, inputs]))
            plain.append((name + ".bias", [outputs]))
        }
        self.layers = layers
        self.plain = plain
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

/// The sizes of a FLUX.1 that its 4-bit file's configuration states (diffusers' `FluxTransformer2DModel`).
struct Int4FluxSizes: Decodable, Equatable {
    var doubleBlocks = 19
    var singleBlocks = 38
    var headDim = 128
    var heads = 24
    var inChannels = 64
    var outChannels = 64
    var jointAttentionDim = 4096
    var pooledProjectionDim = 768
    var guidanceEmbeds = false

    /// Channels of the residual stream.
    var hidden: Int { headDim * heads }

    private enum CodingKeys: String, CodingKey {
        case doubleBlocks = "num_layers"
        case singleBlocks = "num_single_layers"
        case headDim = "attention_head_dim"
        case heads = "num_attention_heads"
        case inChannels = "in_channels"
        case outChannels = "out_channels"
        case jointAttentionDim = "joint_attention_dim"
        case pooledProjectionDim = "pooled_projection_dim"
        case guidanceEmbeds = "guidance_embeds"
    }

    /// FLUX.1-dev's, but without guidance.
    init() {}

    /// A missing key has diffusers' default.
    init(from decoder: any Decoder) throws {
        self.init()
        let values = try decoder.container(keyedBy: CodingKeys.self)
        // Far above any model, and low enough that no product of two overflows and no list of names fills the memory.
        func size(_ key: CodingKeys, _ standard: Int, in range: ClosedRange<Int> = 1...65_536) throws -> Int {
            let value = try values.decodeIfPresent(Int.self, forKey: key) ?? standard
            guard range.contains(value) else {
                throw DecodingError.dataCorruptedError(
                    forKey: key, in: values,
                    debugDescription: "a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return value
        }
        doubleBlocks = try size(.doubleBlocks, doubleBlocks, in: 0...1024)
        singleBlocks = try size(.singleBlocks, singleBlocks, in: 0...1024)
        headDim = try size(.headDim, headDim, in: 1...4096)
        heads = try size(.heads, heads, in: 1...4096)
        inChannels = try size(.inChannels, inChannels)
        outChannels = try size(.outChannels, inChannels)
        jointAttentionDim = try size(.jointAttentionDim, jointAttentionDim)
        pooledProjectionDim = try size(.pooledProjectionDim, pooledProjectionDim)
        guidanceEmbeds = try values.decodeIfPresent(Bool.self, forKey: .guidanceEmbeds) ?? false
    }
}
