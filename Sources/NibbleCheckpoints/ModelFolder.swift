public import Foundation
internal import NibbleTensors

/// A FLUX pipeline as diffusers saves it: `model_index.json` and a folder for each component.
public struct ModelFolder: Sendable {
    /// The parts of a FLUX pipeline; raw values are the folders' names.
    public enum Component: String, Sendable, CaseIterable {
        case transformer
        case textEncoder = "text_encoder"
        case textEncoder2 = "text_encoder_2"
        case tokenizer
        case tokenizer2 = "tokenizer_2"
        case vae
        case scheduler

        /// The file that configures it.
        var configurationFile: String {
            switch self {
            case .scheduler: "scheduler_config.json"
            case .tokenizer, .tokenizer2: "tokenizer_config.json"
            case .transformer, .textEncoder, .textEncoder2, .vae: "config.json"
            }
        }
    }

    private struct Index: Decodable {
        let className: String

        private enum CodingKeys: String, CodingKey { case className = "_class_name" }
    }

    /// The pipelines whose folders have the parts above and mean the same by them.
    private static let knownPipelines = ["FluxPipeline"]

    /// The folder.
    public let path: String

    /// Reads `model_index.json`.
    ///
    /// - Parameter path: the folder.
    /// - Throws: `CheckpointError`: `.wrongConfiguration` for the folder of another pipeline.
    public init(_ path: String) throws(CheckpointError) {
        guard path.isExistingFile else { throw .inaccessible(path: path, reason: "there is no such folder") }
        let indexPath = path.appendingPath("model_index.json")
        let index = try decodeConfiguration(indexPath, as: Index.self)
        guard Self.knownPipelines.contains(index.className) else {
            throw .wrongConfiguration(
                path: indexPath, key: "_class_name", found: "'\(index.className)'",
                expected: "a FLUX.1 text-to-image pipeline (FluxPipeline)")
        }
        self.path = path
    }

    /// The folder of a component.
    public func folder(_ component: Component) -> String { path.appendingPath(component.rawValue) }

    /// The folder of a component, for the tokenizers.
    public func url(_ component: Component) -> URL { URL(filePath: folder(component)) }

    /// Reads a component's configuration: `config.json`, `scheduler_config.json` or `tokenizer_config.json`.
    ///
    /// - Parameters:
    ///   - component: the part.
    ///   - type: what to decode; keys that it does not name are ignored.
    /// - Returns: the configuration.
    /// - Throws: `CheckpointError`: `.wrongConfiguration` names the key, what was found and what was expected.
    public func config<Configuration: Decodable>(
        _ component: Component, as type: Configuration.Type
    ) throws(CheckpointError) -> Configuration {
        try decodeConfiguration(folder(component).appendingPath(component.configurationFile), as: type)
    }

    /// The text of a component's configuration.
    public func configurationText(_ component: Component) throws(CheckpointError) -> String {
        let path = folder(component).appendingPath(component.configurationFile)
        guard path.isExistingFile else { throw .missingFile(path: path, neededBy: "the model") }
        guard let text = String(validating: try configurationBytes(path), as: UTF8.self) else {
            throw .malformed(path: path, reason: "it is not UTF-8")
        }
        return text
    }

    /// Opens a component's weights.
    ///
    /// - Parameter component: a part that has weights.
    /// - Returns: the tensors.
    /// - Throws: `CheckpointError`.
    public func weights(_ component: Component) throws(CheckpointError) -> any TensorSource {
        let folder = folder(component)
        guard folder.isExistingFile else { throw .missingFile(path: folder, neededBy: path) }
        return try Checkpoint.open(folder)
    }
}

/// Decodes a small JSON file.
///
/// - Parameters:
///   - path: the file.
///   - type: what to decode.
/// - Returns: the decoded value.
/// - Throws: `CheckpointError`; a `DecodingError` that the type itself throws becomes `.wrongConfiguration`.
public func decodeConfiguration<Configuration: Decodable>(
    _ path: String, as type: Configuration.Type
) throws(CheckpointError) -> Configuration {
    guard path.isExistingFile else { throw .missingFile(path: path, neededBy: "the model") }
    return try decodeConfiguration(Data(try configurationBytes(path)), path: path, as: type)
}

/// The bytes of a small file.
func configurationBytes(_ path: String) throws(CheckpointError) -> [UInt8] {
    let file = try Storage(checkpoint: path)
    // The largest in the field, a tokenizer's with all its added tokens, has 1 MB.
    guard file.byteCount <= 16 << 20 else {
        throw .malformed(path: path, reason: "\(file.byteCount) bytes are too many for a configuration")
    }
    return file.copiedBytes
}

/// Decodes JSON that is in memory already.
///
/// - Parameters:
///   - data: the JSON.
///   - path: where it comes from, for people.
///   - type: what to decode.
/// - Returns: the decoded value.
/// - Throws: as for a file.
public func decodeConfiguration<Configuration: Decodable>(
    _ data: Data, path: String, as type: Configuration.Type
) throws(CheckpointError) -> Configuration {
    do {
        return try JSONDecoder().decode(type, from: data)
    } catch let error as DecodingError {
        throw ConfigurationFailure(error, in: data).asCheckpointError(path: path)
    } catch {
        throw .malformed(path: path, reason: error.localizedDescription)
    }
}

/// Turns Foundation's account of a failure into one for people.
private struct ConfigurationFailure {
    let keys: [any CodingKey]
    let found: String
    let expected: String
    let isSyntax: Bool

    init(_ error: DecodingError, in data: Data) {
        switch error {
        case .keyNotFound(let key, let context):
            keys = context.codingPath + [key]
            expected = "a value"
            isSyntax = false
        case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
            keys = context.codingPath
            expected = Self.text(of: type)
            isSyntax = false
        case .dataCorrupted(let context):
            keys = context.codingPath
            expected = context.debugDescription
            isSyntax = context.codingPath.isEmpty
        @unknown default:
            keys = []
            expected = "\(error)"
            isSyntax = true
        }
        found = isSyntax ? "" : Self.value(at: keys, in: data)
    }

    func asCheckpointError(path: String) -> CheckpointError {
        if isSyntax { return .malformed(path: path, reason: "not valid JSON: \(expected)") }
        let key = keys.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
        let place = key.isEmpty ? "the whole file" : key
        return .wrongConfiguration(path: path, key: place, found: found, expected: expected)
    }

    private static func text(of type: Any.Type) -> String {
        if type is any BinaryInteger.Type { return "an integer" }
        if type is any BinaryFloatingPoint.Type { return "a number" }
        if type is Bool.Type { return "true or false" }
        if type is String.Type { return "a string" }
        let name = String(describing: type)
        if name.hasPrefix("Array<") { return "a list" }
        return name.hasPrefix("Dictionary<") ? "an object" : "a \(name)"
    }

    /// The value that lies below some keys, as text.
    private static func value(at keys: [any CodingKey], in data: Data) -> String {
        var value = try? JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed)
        for key in keys {
            if let index = key.intValue {
                guard let list = value as? [Any], list.indices.contains(index) else { return "missing" }
                value = list[index]
            } else {
                value = (value as? [String: Any])?[key.stringValue]
            }
        }
        switch value {
        case nil: return "missing"
        case is NSNull: return "null"
        case let text as String: return "'\(text)'"
        case is [Any]: return "a list"
        case is [String: Any]: return "an object"
        case let other?: return "\(other)"
        }
    }
}
