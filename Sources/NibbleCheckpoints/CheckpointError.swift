public import NibbleTensors

/// What is wrong with a checkpoint. Every case names the file and, where there is one, the tensor.
public enum CheckpointError: Error, Equatable, CustomStringConvertible {
    /// The file cannot be opened, read or written.
    case inaccessible(path: String, reason: String)
    /// The file is not what its name says: header, index or configuration cannot be understood.
    case malformed(path: String, reason: String)
    /// A tensor that is needed is not there.
    case missingTensor(path: String, name: String)
    /// A tensor has another shape than the network's configuration asks for.
    case wrongShape(path: String, name: String, found: Shape, expected: Shape)
    /// A tensor has a type that cannot be used in its place.
    case wrongType(path: String, name: String, found: String, expected: String)
    /// Tensors that the network does not know.
    case unexpectedTensors(path: String, names: [String])
    /// A tensor holds NaN or infinity.
    case notFinite(path: String, name: String)

    public var description: String {
        switch self {
        case .inaccessible(let path, let reason): "\(path): \(reason)"
        case .malformed(let path, let reason): "\(path): \(reason)"
        case .missingTensor(let path, let name):
            "\(path): tensor '\(name)' is missing; is this a file of another model, or is a shard not downloaded?"
        case .wrongShape(let path, let name, let found, let expected):
            "\(path): tensor '\(name)' has shape \(found), but the configuration asks for \(expected)"
        case .wrongType(let path, let name, let found, let expected):
            "\(path): tensor '\(name)' is \(found); expected \(expected)"
        case .unexpectedTensors(let path, let names):
            "\(path): \(names.count) tensors are not part of this model: "
                + names.prefix(5).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
        case .notFinite(let path, let name):
            "\(path): tensor '\(name)' holds NaN or infinity; download the file again or check it with "
                + "'nibble inspect --verify'"
        }
    }
}
