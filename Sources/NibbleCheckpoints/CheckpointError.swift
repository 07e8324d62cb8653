internal import Foundation
public import NibbleTensors

/// What is wrong with a checkpoint. Every case names the file and, where there is one, the tensor.
public enum CheckpointError: Error, Equatable, CustomStringConvertible {
    /// The file cannot be opened, read or written.
    case inaccessible(path: String, reason: String)
    /// The file is not what its name says: header, index or configuration cannot be understood.
    case malformed(path: String, reason: String)
    /// A tensor's entry in a header or an index contradicts itself, the other tensors or the file.
    case malformedTensor(path: String, name: String, reason: String)
    /// A file that another one speaks of is not there.
    case missingFile(path: String, neededBy: String)
    /// The weights are of another kind or in another format than what was asked for.
    case wrongFormat(path: String, found: String, expected: String)
    /// A key of a configuration has another value than this program knows what to do with.
    case wrongConfiguration(path: String, key: String, found: String, expected: String)
    /// A checkpoint cannot be written in a form without losing something.
    case notConvertible(path: String, to: String, reason: String)
    /// The disk, the quota or the file system's limit is full. What was there before is still there.
    case diskFull(path: String)
    /// The disk has less space than a model takes, in bytes. Nothing was written.
    case tooLittleSpace(path: String, needed: Int, free: Int)
    /// A folder that is going to be written holds something already, which is not replaced.
    case occupied(path: String)
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
    /// Tensors that hold NaN or infinity, found by reading all of them.
    case verificationFailed(path: String, names: [String])

    /// What is wrong and what to do about it, for people.
    public var description: String {
        switch self {
        case .inaccessible(let path, let reason): "\(path): \(reason)"
        case .malformed(let path, let reason): "\(path): \(reason.printable)"
        case .malformedTensor(let path, let name, let reason):
            "\(path): tensor '\(name.printable)': \(reason.printable)"
        case .missingFile(let path, let neededBy):
            "\(path): there is no such file, but \(neededBy) needs it; is the download complete?"
        case .wrongFormat(let path, let found, let expected):
            "\(path): this is \(found.printable); expected \(expected)"
        case .wrongConfiguration(let path, let key, let found, let expected):
            "\(path): '\(key)' is \(found.printable); expected \(expected)"
        case .notConvertible(let path, let form, let reason):
            "\(path): it cannot be written as '\(form)': \(reason); convert the file that it was made from"
        case .diskFull(let path): "\(path): no space is left to write it; free some and try again"
        case .tooLittleSpace(let path, let needed, let free):
            "\(path): \(needed) bytes are needed, but the disk has \(free) free; free some, or name a folder on another disk"
        case .occupied(let path):
            "\(path): the folder is there and holds something else; name another one, or empty it"
        case .missingTensor(let path, let name):
            "\(path): tensor '\(name.printable)' is missing; is this a file of another model, or is a shard not downloaded?"
        case .wrongShape(let path, let name, let found, let expected):
            "\(path): tensor '\(name.printable)' has shape \(found), but the configuration asks for \(expected)"
        case .wrongType(let path, let name, let found, let expected):
            "\(path): tensor '\(name.printable)' is \(found); expected \(expected)"
        case .unexpectedTensors(let path, let names):
            "\(path): \(names.count) tensors are not part of this model: "
                + names.prefix(5).map(\.printable).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
        case .notFinite(let path, let name):
            "\(path): tensor '\(name.printable)' holds NaN or infinity; download the file again or check it with "
                + "'nibble inspect --verify'"
        case .verificationFailed(let path, let names):
            "\(path): NaN or infinity in \(names.count) tensors, download the file again: "
                + names.prefix(5).map(\.printable).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
        }
    }
}

extension CheckpointError {
    /// The system's text for an error number.
    static func reason(_ errno: Int32) -> String { String(cString: strerror(errno)) }
}

extension String {
    /// Text from a file as it may be shown on a terminal: control characters escaped, and cut where it is absurdly long.
    package var printable: String {
        let limit = 300
        // Bytes from 0x80 may be of a control character too.
        if utf8.count <= limit, utf8.allSatisfy({ (0x20..<0x7f).contains($0) }) { return self }
        let shown = unicodeScalars.prefix(limit).map { scalar in
            scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
        }
        return shown.joined() + (unicodeScalars.dropFirst(limit).isEmpty ? "" : "…")
    }
}
