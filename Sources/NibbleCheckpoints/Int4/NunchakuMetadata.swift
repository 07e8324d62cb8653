internal import Foundation

/// The strings of a Nunchaku single file's `__metadata__`, parsed.
struct NunchakuMetadata {
    /// The class that Nunchaku loads a FLUX.1 with.
    static let modelClass = "NunchakuFluxTransformer2dModel"

    /// The strings, as they are written again.
    let strings: [String: String]
    /// What `config` says.
    let sizes: Int4FluxSizes
    /// The rank that `quantization_config` states; nil where there is none, in a legacy folder.
    let rank: Int?

    /// Parses a single file's strings.
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
        let quantization = try text("quantization_config", "a description of the 4-bit format")
        if let name = strings["model_class"], name != Self.modelClass {
            throw .wrongConfiguration(
                path: path, key: "__metadata__.model_class", found: "'\(name)'",
                expected: "\(Self.modelClass); other models are not supported")
        }
        let description = try decodeConfiguration(
            Data(quantization.utf8), path: "\(path), quantization_config", as: Quantization.self)
        try description.check(path: path)
        self.strings = strings
        sizes = try Self.sizes(config, path: "\(path), config")
        rank = description.rank
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
        strings = Self.strings(
            config: config, comfyConfig: comfyPath.isExistingFile ? try Self.text(comfyPath, neededBy: folder) : "",
            rank: rank)
        self.rank = nil
    }

    /// The strings of a single file.
    static func strings(config: String, comfyConfig: String, rank: Int) -> [String: String] {
        let numbers = #"{"dtype": "int4", "scale_dtype": null, "group_size": 64}"#
        return [
            "model_class": Self.modelClass, "config": config, "comfy_config": comfyConfig,
            "quantization_config":
                #"{"method": "svdquant", "weight": \#(numbers), "activation": \#(numbers), "rank": \#(rank)}"#,
        ]
    }

    static func sizes(_ config: String, path: String) throws(CheckpointError) -> Int4FluxSizes {
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

private struct ClassName: Decodable {
    let className: String?

    enum CodingKeys: String, CodingKey { case className = "_class_name" }
}

/// `quantization_config`.
private struct Quantization: Decodable {
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
            if numbers.dtype.hasPrefix("fp4") { throw NunchakuCheckpoint.floatFormat(path) }
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
