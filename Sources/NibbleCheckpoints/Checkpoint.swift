internal import Foundation

/// Opens weights wherever they lie.
public enum Checkpoint {
    /// Opens a safetensors file, an index of shards, or the weights in a component's folder.
    ///
    /// - Parameter path: a `.safetensors` file, a `.safetensors.index.json`, or a folder with either under the names that
    ///   diffusers (`diffusion_pytorch_model`) or transformers (`model`) use. An index wins over a file. A variant (such
    ///   as `model.fp16.safetensors`) is taken only if it is the only thing there.
    /// - Returns: the tensors; a FLUX.1 transformer in the original names is presented under those of diffusers.
    /// - Throws: `CheckpointError`.
    public static func open(_ path: String) throws(CheckpointError) -> any TensorSource {
        let file = try weightsFile(at: path)
        let source: any TensorSource =
            file.hasSuffix(".json") ? try ShardedCheckpoint(index: file) : try SafetensorsFile(file)
        return OriginalFluxCheckpoint(source) ?? source
    }

    /// The names, without ending, that the two libraries give to weights.
    private static let stems = ["diffusion_pytorch_model", "model"]

    /// The file or index that a path stands for.
    static func weightsFile(at path: String) throws(CheckpointError) -> String {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw .inaccessible(path: path, reason: "there is no such file or folder")
        }
        guard isFolder.boolValue else { return path }
        let folder = path.appendingPath("")
        let names = try fileNames(in: folder)
        for stem in stems {
            for name in ["\(stem).safetensors.index.json", "\(stem).safetensors"] where names.contains(name) {
                return folder + name
            }
        }
        let variants = names.filter(isVariant)
        guard variants.count == 1 else { throw nothingToOpen(folder, names: names, variants: variants) }
        return folder + variants[0]
    }

    /// `model.fp16.safetensors`, and for shards `model.safetensors.index.fp16.json`.
    private static func isVariant(_ name: String) -> Bool {
        stems.contains { stem in
            let isFile = name.hasPrefix("\(stem).") && name.hasSuffix(".safetensors")
            let isIndex = name.hasPrefix("\(stem).safetensors.index.") && name.hasSuffix(".json")
            return isIndex || isFile && name.wholeMatch(of: /.*-\d+-of-\d+\.safetensors/) == nil
        }
    }

    private static func nothingToOpen(_ folder: String, names: [String], variants: [String]) -> CheckpointError {
        if !variants.isEmpty {
            return .malformed(
                path: folder, reason: "there are several variants (\(variants.joined(separator: ", "))); name the file")
        }
        if let shard = names.first(where: { $0.wholeMatch(of: /.*-\d+-of-\d+\.safetensors/) != nil }) {
            return .malformed(path: folder, reason: "'\(shard)' is one of several, but their .index.json is missing")
        }
        let foreign = [".bin", ".pth", ".pt", ".ckpt", ".gguf", ".msgpack"]
        let other = names.first { name in foreign.contains { name.hasSuffix($0) } }
        let hint = other.map { "; '\($0)' is not in the safetensors format, convert it" } ?? ""
        return .malformed(
            path: folder,
            reason: "there is no diffusion_pytorch_model.safetensors, model.safetensors or index of shards\(hint)")
    }

    static func fileNames(in folder: String) throws(CheckpointError) -> [String] {
        do {
            return try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        } catch {
            throw .inaccessible(path: folder, reason: error.localizedDescription)
        }
    }
}

extension String {
    /// The folder of a path with its slash; empty for a name alone.
    var folderOfPath: String { lastIndex(of: "/").map { String(self[...$0]) } ?? "" }

    /// The path of something in this folder.
    func appendingPath(_ name: String) -> String { hasSuffix("/") ? self + name : "\(self)/\(name)" }

    /// Whether there is a file or folder of that path.
    var isExistingFile: Bool { FileManager.default.fileExists(atPath: self) }
}
