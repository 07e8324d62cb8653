internal import Foundation

/// Diffusers' description of a model for its own loader: `quantization_config` of its `config.json`
/// (https://huggingface.co/docs/diffusers/main/quantization/nunchaku).
struct LiteQuantization: Decodable {
    /// `quant_method`.
    static let method = "nunchaku_lite"

    struct Part: Decodable {
        let precision: String
        let groupSize: Int
        /// Of all low-rank pairs; nil for modulations.
        let rank: Int?
        let targets: [String]

        enum CodingKeys: String, CodingKey {
            case precision, rank, targets
            case groupSize = "group_size"
        }
    }

    /// The layers with quantized inputs; nil: none.
    let svdq: Part?
    /// The modulations; nil: none is quantized.
    let awq: Part?

    private enum CodingKeys: String, CodingKey {
        case svdq = "svdq_w4a4"
        case awq = "awq_w4a16"
    }

    /// Takes `quantization_config` out of a `config.json`.
    ///
    /// - Parameters:
    ///   - text: of the `config.json`.
    ///   - path: where it is, for error messages.
    /// - Returns: the text without it, and its text; object keys in alphabetical order.
    /// - Throws: `CheckpointError.wrongConfiguration` where there is none of this method.
    static func split(_ text: String, path: String) throws(CheckpointError) -> (config: String, quantization: String) {
        let parsed = try? JSONSerialization.jsonObject(with: Data(text.utf8))
        guard var object = parsed as? [String: Any] else {
            throw .malformed(path: path, reason: "not valid JSON, or no object")
        }
        guard let quantization = object.removeValue(forKey: "quantization_config") as? [String: Any],
            quantization["quant_method"] as? String == method
        else {
            throw .wrongConfiguration(
                path: path, key: "quantization_config.quant_method", found: "missing or another", expected: method)
        }
        do {
            return (try Self.text(of: object), try Self.text(of: quantization))
        } catch {
            throw .malformed(path: path, reason: error.localizedDescription)
        }
    }

    private static func text(of object: [String: Any]) throws -> String {
        let options: JSONSerialization.WritingOptions = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try JSONSerialization.data(withJSONObject: object, options: options), as: UTF8.self)
    }

    /// Throws for numbers that the layers here do not have.
    func check(path: String) throws(CheckpointError) {
        for (name, part) in [("svdq_w4a4", svdq), ("awq_w4a16", awq)] {
            guard let part else { continue }
            func refusal(_ key: String, _ found: String, _ expected: String) -> CheckpointError {
                .wrongConfiguration(
                    path: path, key: "quantization_config.\(name).\(key)", found: found, expected: expected)
            }
            if part.precision == "nvfp4" { throw .floatFormat(path) }
            guard part.precision == "int4" else { throw refusal("precision", "'\(part.precision)'", "int4") }
            guard part.groupSize == Int4Weights.groupSize else {
                throw refusal("group_size", "\(part.groupSize)", "\(Int4Weights.groupSize)")
            }
            if name == "svdq_w4a4", !Int4Weights.ranks.contains(part.rank ?? 0) {
                throw refusal(
                    "rank", part.rank.map(String.init) ?? "missing", "a multiple of 16, at most 1024")
            }
        }
    }

    /// All tensors of a model of these sizes.
    ///
    /// - Parameters:
    ///   - sizes: the model's.
    ///   - path: the file, for error messages.
    /// - Returns: names, kinds and shapes.
    /// - Throws: `CheckpointError.wrongConfiguration` for targets that a FLUX.1 lacks, or that cannot be of their kind.
    func schema(_ sizes: Int4FluxSizes, path: String) throws(CheckpointError) -> Int4FluxSchema {
        let (quantized, modulations) = (Set(svdq?.targets ?? []), Set(awq?.targets ?? []))
        var known: Set<String> = []
        let schema = try Int4FluxSchema(sizes) { name, isModulation throws(CheckpointError) -> Int4Layer.Kind? in
            known.insert(name)
            let wrong = isModulation ? quantized : modulations
            guard !wrong.contains(name) else {
                throw .wrongConfiguration(
                    path: path, key: "quantization_config.\(isModulation ? "svdq_w4a4" : "awq_w4a16").targets",
                    found: "'\(name)'", expected: isModulation ? "no modulation" : "modulations only")
            }
            if isModulation { return modulations.contains(name) ? .w4a16(splits: 1) : nil }
            return quantized.contains(name) ? .w4a4(isUnsigned: false) : nil
        }
        for (key, targets) in [("svdq_w4a4", quantized), ("awq_w4a16", modulations)] {
            guard let other = targets.subtracting(known).min() else { continue }
            throw .wrongConfiguration(
                path: path, key: "quantization_config.\(key).targets", found: "'\(other)'",
                expected: "linear layers of a FLUX.1's blocks")
        }
        return schema
    }
}
