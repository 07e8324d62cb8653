import Foundation
import NibbleCheckpoints
import NibbleTensors

/// A copy of the embedded model in which one thing can be damaged: links to its files until they are written.
struct ModelCopy {
    let folder: URL

    init(in scratch: Scratch) throws {
        folder = scratch.folder.appending(path: "model")
        let manager = FileManager.default
        let names = try manager.subpathsOfDirectory(atPath: Drawing.model)
        for name in names.sorted() {
            let original = URL(filePath: Drawing.model).appending(path: name)
            let copy = folder.appending(path: name)
            try manager.createDirectory(at: copy.deletingLastPathComponent(), withIntermediateDirectories: true)
            var isFolder: ObjCBool = false
            _ = manager.fileExists(atPath: original.path, isDirectory: &isFolder)
            if !isFolder.boolValue { try manager.createSymbolicLink(at: copy, withDestinationURL: original) }
        }
    }

    /// The path of a part.
    func path(_ name: String) -> String { folder.appending(path: name).path }

    /// Takes a file or folder away.
    func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: path(name)) }

    /// Puts bytes in the place of a file.
    func write(_ data: Data, to name: String) throws {
        try? remove(name)
        try data.write(to: folder.appending(path: name))
    }

    /// Replaces text in a file. Throws where there is none to replace: the damage would not be done.
    func replace(_ text: String, with other: String, in name: String) throws {
        let before = String(decoding: try Drawing.bytes(path(name)), as: UTF8.self)
        let after = before.replacing(text, with: other)
        guard after != before else { throw Tool.Failure(description: "there is no '\(text)' in \(name)") }
        try write(Data(after.utf8), to: name)
    }

    /// Cuts a file short.
    func truncate(_ name: String, to share: Double) throws {
        let data = try Drawing.bytes(path(name))
        try write(data.prefix(Int(Double(data.count) * share)), to: name)
    }

    /// Writes a safetensors file anew with other tensors.
    func edit(_ name: String, _ body: (inout [String: Tensor]) throws -> Void) throws {
        let file = try SafetensorsFile(path(name))
        var tensors: [String: Tensor] = [:]
        for tensor in file.tensorNames { tensors[tensor] = try file.tensor(tensor) }
        try body(&tensors)
        try SafetensorsWriter.write(tensors, to: path(name))
    }

    /// Puts a NaN into the middle of a tensor.
    func poison(_ tensor: String, in name: String) throws {
        try edit(name) { tensors in
            guard let original = tensors[tensor] else { throw Tool.Failure(description: "there is no \(tensor)") }
            var values = original.floats()
            values[values.count / 2] = .nan
            tensors[tensor] = Tensor(values, shape: original.shape)
        }
    }
}
