internal import Foundation

/// What a 4-bit file says of itself, parsed: the strings of Nunchaku's single file, which a nibble file keeps, and the
/// same made of a folder's configuration.
struct Int4Metadata {
    /// The class that Nunchaku loads a FLUX.1 with.
    static let modelClass = "NunchakuFluxTransformer2dModel"

    /// The strings, as they are written again.
    let strings: [String: String]
    /// What `config` says.
    let sizes: Int4FluxSizes
    /// The rank that `quantization_config` states; nil where there is none, in a legacy folder.
    let rank: Int?
    /// The layers that diffusers' description lists; nil for Nunchaku's structure, where all of them are quantized.
    let lite: LiteQuantization?

    /// Parses a file's strings.
    ///
    /// - Parameters:
    ///   - strings: `__metadata__`.
    ///   - path: the file.
    /// - Throws: `CheckpointError.wrongConfiguration`, `.malformed`, or `.wrongFormat` for NVFP4.
    init(_ strings: [String: String], path: String) throws(CheckpointError) {
        func text(_ key: String, _ expected: String) throws(CheckpointError) -> String {
            guard let text = strings[key] else {
                throw .wrongConfiguration(path: path, key: "__metadata__.\(key)", found: "missing", expected: expected)
            }
            return text
        }
        let config = try text("config", "the configuration of a FLUX.1 transformer")
        let quantization = Data(try text("quantization_config", "a description of the 4-bit format").utf8)
        if let name = strings["model_class"], name != Self.modelClass {
            throw .wrongConfiguration(
                path: path, key: "__metadata__.model_class", found: "'\(name)'",
                expected: "\(Self.modelClass); other models are not supported")
        }
        let place = "\(path), quantization_config"
        let method = try decodeConfiguration(quantization, path: place, as: Method.self)
        if method.isLite {
            let description = try decodeConfiguration(quantization, path: place, as: LiteQuantization.self)
            try description.check(path: path)
            lite = description
            rank = description.svdq?.rank
        } else {
            let description = try decodeConfiguration(quantization, path: place, as: SVDQuantization.self)
            try description.check(path: path)
            lite = nil
            rank = description.rank
        }
        self.strings = strings
        sizes = try Self.sizes(config, path: "\(path), config")
    }

    /// Makes the strings that Nunchaku's `merge_safetensors` would make of a legacy folder.
    ///
    /// - Parameters:
    ///   - folder: the folder.
    ///   - rank: of the first low-rank pair.
    /// - Throws: `CheckpointError`.
    init(legacyFolder folder: String, rank: Int) throws(CheckpointError) {
        let path = folder.appendingPath("config.json")
        let config = try Self.text(path, neededBy: folder)
        sizes = try Self.sizes(config, path: path)
        let comfyPath = folder.appendingPath("comfy_config.json")
        strings = Self.nunchakuStrings(
            config: config, comfyConfig: comfyPath.isExistingFile ? try Self.text(comfyPath, neededBy: folder) : "",
            rank: rank)
        self.rank = nil
        lite = nil
    }

    /// Makes strings of a `config.json` that describes the quantization too, for diffusers' own loader.
    ///
    /// - Parameters:
    ///   - path: the `config.json`.
    ///   - folder: what needs it.
    /// - Throws: `CheckpointError`.
    init(liteConfiguration path: String, neededBy folder: String) throws(CheckpointError) {
        let text = try Self.text(path, neededBy: folder)
        let (config, quantization) = try LiteQuantization.split(text, path: path)
        try self.init(["config": config, "quantization_config": quantization], path: path)
    }

    /// The strings of a Nunchaku single file.
    static func nunchakuStrings(config: String, comfyConfig: String, rank: Int) -> [String: String] {
        let numbers = #"{"dtype": "int4", "scale_dtype": null, "group_size": 64}"#
        return [
            "model_class": modelClass, "config": config, "comfy_config": comfyConfig,
            "quantization_config":
                #"{"method": "svdquant", "weight": \#(numbers), "activation": \#(numbers), "rank": \#(rank)}"#,
        ]
    }

    /// All tensors that a checkpoint of this description has.
    func schema(path: String) throws(CheckpointError) -> Int4FluxSchema {
        guard let lite else { return Int4FluxSchema(sizes) }
        return try lite.schema(sizes, path: path)
    }

    /// How the layers are cut.
    var structure: Int4Structure { lite == nil ? .nunchaku : .diffusers }

    private static func sizes(_ config: String, path: String) throws(CheckpointError) -> Int4FluxSizes {
        let data = Data(config.utf8)
        let name = try decodeConfiguration(data, path: path, as: ClassName.self).className
        guard name == nil || name == "FluxTransformer2DModel" else {
            throw .wrongConfiguration(
                path: path, key: "_class_name", found: "'\(name ?? "")'", expected: "FluxTransformer2DModel")
        }
        return try decodeConfiguration(data, path: path, as: Int4FluxSizes.self)
    }

    private static func text(_ path: String, neededBy folder: String) throws(CheckpointError) -> String {
        guard path.isExistingFile else { throw .missingFile(path: path, neededBy: folder) }
        guard let text = String(validating: try configurationBytes(path), as: UTF8.self) else {
            throw .malformed(path: path, reason: "it is not UTF-8")
        }
        return text
    }
}

/// What a FLUX.1 in Nunchaku's structure consists of: for a checkpoint that is made, not read.
public struct NunchakuContents: Sendable {
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// Names of the tensors that are not quantized.
    public let plainTensors: [String]
    /// What its single file says of itself.
    public let metadata: [String: String]

    /// The contents for a configuration.
    ///
    /// - Parameters:
    ///   - config: the text of diffusers' `config.json`.
    ///   - rank: of the low-rank pairs.
    ///   - path: where the configuration comes from, for error messages.
    /// - Throws: `CheckpointError.wrongConfiguration` or `.malformed`.
    public init(config: String, rank: Int, path: String) throws(CheckpointError) {
        let strings = Int4Metadata.nunchakuStrings(config: config, comfyConfig: "", rank: rank)
        let schema = try Int4Metadata(strings, path: path).schema(path: path)
        layers = schema.layers
        plainTensors = schema.plain.map(\.name)
        metadata = strings
    }
}

private struct ClassName: Decodable {
    let className: String?

    enum CodingKeys: String, CodingKey { case className = "_class_name" }
}

/// What tells the two descriptions apart.
private struct Method: Decodable {
    let quantMethod: String?

    var isLite: Bool { quantMethod == LiteQuantization.method }

    enum CodingKeys: String, CodingKey { case quantMethod = "quant_method" }
}

/// Nunchaku's `quantization_config`.
private struct SVDQuantization: Decodable {
    struct Numbers: Decodable {
        let dtype: String
        let groupSize: Int

        enum CodingKeys: String, CodingKey {
            case dtype
            case groupSize = "group_size"
        }
    }

    let method: String
    let weight: Numbers
    let activation: Numbers
    let rank: Int

    func check(path: String) throws(CheckpointError) {
        func refusal(_ key: String, _ found: String, _ expected: String) -> CheckpointError {
            .wrongConfiguration(
                path: path, key: "__metadata__.quantization_config.\(key)", found: found, expected: expected)
        }
        guard method == "svdquant" else { throw refusal("method", "'\(method)'", "svdquant") }
        for (name, numbers) in [("weight", weight), ("activation", activation)] {
            if numbers.dtype.hasPrefix("fp4") { throw .floatFormat(path) }
            guard numbers.dtype == "int4" else { throw refusal("\(name).dtype", "'\(numbers.dtype)'", "int4") }
            guard numbers.groupSize == Int4Weights.groupSize else {
                throw refusal("\(name).group_size", "\(numbers.groupSize)", "\(Int4Weights.groupSize)")
            }
        }
        guard Int4Weights.ranks.contains(rank) else {
            throw refusal("rank", "\(rank)", "a multiple of 16, at most 1024")
        }
    }
}

extension CheckpointError {
    /// The refusal of NVFP4.
    static func floatFormat(_ path: String) -> CheckpointError {
        .wrongFormat(
            path: path, found: "in NVFP4 (4-bit floats, which NVIDIA's Blackwell processors compute with)",
            expected: "INT4; take the file of the same model that is named svdq-int4")
    }
}
