/// What is wrong with the files of a tokenizer. Every case names the file.
public enum TokenizerError: Error, Equatable, CustomStringConvertible {
    /// A file that is needed is not there.
    case missingFile(path: String, advice: String)
    /// A file cannot be read.
    case inaccessible(path: String, reason: String)
    /// A file is not what its name says.
    case malformed(path: String, reason: String)
    /// A file asks for something that CLIP's and T5's tokenizers do not use.
    case unsupported(path: String, feature: String)
    /// The files name a special token that the vocabulary does not hold.
    case missingToken(path: String, token: String, role: String)
    /// A file of prompts is not a JSON list of strings.
    case notPrompts(path: String)

    /// The file, what is wrong with it, and what to do.
    public var description: String {
        switch self {
        case .missingFile(let path, let advice): "\(path) is not there; \(advice)"
        case .inaccessible(let path, let reason): "\(path) cannot be read: \(reason)"
        case .malformed(let path, let reason): "\(path): \(reason); download the file again"
        case .unsupported(let path, let feature):
            "\(path): \(feature) is not supported; use the tokenizer files that belong to FLUX.1's text encoders"
        case .missingToken(let path, let token, let role):
            "\(path): the \(role) token '\(token)' is not in the vocabulary; do all files of this folder belong together?"
        case .notPrompts(let path):
            #"\#(path) is not a JSON list of strings; write the prompts as ["a cat", "a dog"]"#
        }
    }
}

/// A problem met while reading a file's contents, before the file's name is known.
enum ContentProblem: Error {
    case malformed(String)
    case unsupported(String)
    case missingToken(String, role: String)
}

/// Runs a reader of a file's contents and puts the file's name into its errors.
func reading<Value>(_ path: String, _ body: () throws -> Value) throws(TokenizerError) -> Value {
    do {
        return try body()
    } catch let error as TokenizerError {
        throw error
    } catch ContentProblem.malformed(let reason) {
        throw .malformed(path: path, reason: reason)
    } catch ContentProblem.unsupported(let feature) {
        throw .unsupported(path: path, feature: feature)
    } catch ContentProblem.missingToken(let token, let role) {
        throw .missingToken(path: path, token: token, role: role)
    } catch let error as DecodingError {
        throw .malformed(path: path, reason: error.summary)
    } catch {
        throw .malformed(path: path, reason: "\(error)")
    }
}

extension DecodingError {
    /// The place in the JSON text and what is wrong there.
    fileprivate var summary: String {
        let (context, fault) =
            switch self {
            case .keyNotFound(let key, let context): (context, "'\(key.stringValue)' is missing")
            case .typeMismatch(_, let context): (context, context.debugDescription)
            case .valueNotFound(_, let context): (context, context.debugDescription)
            case .dataCorrupted(let context): (context, context.debugDescription)
            @unknown default: (DecodingError.Context(codingPath: [], debugDescription: ""), "\(self)")
            }
        let place = context.codingPath.map(\.stringValue).joined(separator: ".")
        let sentence = fault.hasSuffix(".") ? String(fault.dropLast()) : fault
        return place.isEmpty ? sentence : "at \(place): \(sentence)"
    }
}
