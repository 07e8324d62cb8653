internal import Foundation
internal import NibbleCheckpoints
public import NibbleTensors

extension SyntheticModel {
    /// Says of a folder that its weights are random, and that another synthesis may replace it.
    static let markName = "synthetic.json"

    /// What headers, configurations and tokenizers take beside the tensors: T5's own tokenizer has 3.2 MB, CLIP's 1.6 MB.
    private static let otherBytes = 8 << 20

    private struct Mark: Encodable {
        let format: String
        let seed: UInt64
        let note = "random weights, written by 'nibble synthesize'"
    }

    /// Writes the model, tensor by tensor; no more than one layer is in memory. The same seed gives the same bytes,
    /// whatever the number of threads.
    ///
    /// Every file is put in its place when it is complete, `model_index.json` last. When the work is stopped, or fails,
    /// what was written is taken away.
    ///
    /// - Parameters:
    ///   - folder: made where it is not there; one that a synthesis wrote before is replaced.
    ///   - pool: the threads that make the numbers.
    ///   - progress: called again and again with bytes done and bytes in all; may throw to stop.
    /// - Throws: `CheckpointError`: `.occupied` for a folder that holds something else, `.tooLittleSpace`; or what
    ///   `progress` throws.
    public func write(
        to folder: String, on pool: ThreadPool, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws {
        let manager = FileManager.default
        let wasThere = manager.fileExists(atPath: folder)
        try clear(folder)
        try checkSpace(for: folder)
        do {
            try manager.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try writeMark(folder)
            try writeParts(folder, on: pool, progress: progress)
        } catch {
            try? clear(folder)
            if !wasThere { try? manager.removeItem(atPath: folder) }
            throw error
        }
    }

    /// Takes away what an earlier synthesis wrote.
    private func clear(_ folder: String) throws {
        let manager = FileManager.default
        var isFolder: ObjCBool = false
        guard manager.fileExists(atPath: folder, isDirectory: &isFolder) else { return }
        guard isFolder.boolValue else {
            throw CheckpointError.inaccessible(path: folder, reason: "it is a file; name a folder")
        }
        let names = try accessing(folder) { try manager.contentsOfDirectory(atPath: folder) }
        guard !names.isEmpty else { return }
        guard names.contains(Self.markName) else { throw CheckpointError.occupied(path: folder) }
        // The mark goes last: until then the folder is known for what it is.
        let own = ["model_index.json", "config.json"] + ModelFolder.Component.allCases.map(\.rawValue)
        let weights = names.filter { $0.hasPrefix("diffusion_pytorch_model") }
        for name in own + weights + [Self.markName] where names.contains(name) {
            let path = folder + "/" + name
            try accessing(path) { try manager.removeItem(atPath: path) }
        }
    }

    private func checkSpace(for folder: String) throws {
        var existing = URL(filePath: folder).standardizedFileURL
        while !FileManager.default.fileExists(atPath: existing.path), existing.path != "/" {
            existing.deleteLastPathComponent()
        }
        let attributes = try? FileManager.default.attributesOfFileSystem(forPath: existing.path)
        // A file system that does not tell will say when it is full.
        guard let free = (attributes?[.systemFreeSize] as? NSNumber)?.intValue else { return }
        let needed = byteCount + Self.otherBytes
        guard needed <= free else {
            throw CheckpointError.tooLittleSpace(path: folder, needed: needed, free: free)
        }
    }

    private func writeMark(_ folder: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try write(encoder.encode(Mark(format: format.rawValue, seed: seed)), to: folder + "/" + Self.markName)
    }

    private func writeParts(
        _ folder: String, on pool: ThreadPool, progress: (_ done: Int, _ total: Int) throws -> Void
    ) throws {
        let total = byteCount
        var done = 0
        for part in parts {
            let target = part.component.map { folder + "/" + $0.rawValue } ?? folder
            try accessing(target) {
                try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
            }
            try write(part.weights, to: target, on: pool) { try progress(done + $0, total) }
            try write(Data(part.configuration.utf8), to: target + "/config.json")
            done += part.weights.byteCount
        }
        try progress(total, total)
        guard let tokenizers else { return }
        try copyTokenizers(from: tokenizers, to: folder)
        for name in ["scheduler/scheduler_config.json", "model_index.json"] {
            try copy(source + "/" + name, to: folder + "/" + name)
        }
    }

    private func write(
        _ weights: Weights, to folder: String, on pool: ThreadPool, progress: (_ done: Int) throws -> Void
    ) throws {
        switch weights {
        case .plain(let tensors, let stem):
            let random = RandomWeights(dtype: .bfloat16, seed: seed, on: pool)
            var done = 0
            try ShardedWriter(folder: folder, stem: stem, tensors: tensors).write { writer in
                for tensor in writer.declarations {
                    try progress(done)
                    try writer.write(tensor.name, random.tensor(tensor.name, expecting: tensor.shape))
                    done += tensor.byteCount
                }
            }
        case .quantized(let random, let form, let stem):
            let path = folder + "/\(stem).safetensors"
            switch form {
            case .nibble: try random.writeNibble(to: path, on: pool) { done, _ in try progress(done) }
            default: try random.writeNunchaku(to: path, on: pool) { done, _ in try progress(done) }
            }
        }
    }
}

// MARK: - Small files

extension SyntheticModel {
    /// The files that tokenizers are read from.
    private static let tokenizerFiles = [
        "added_tokens.json", "merges.txt", "special_tokens_map.json", "spiece.model", "tokenizer.json",
        "tokenizer_config.json", "vocab.json",
    ]

    /// Tokens of a prompt in both of FLUX.1's models (`model_max_length`).
    private static let textTokens = 512

    private func copyTokenizers(from origin: String, to folder: String) throws {
        for component in [ModelFolder.Component.tokenizer, .tokenizer2] {
            for file in Self.tokenizerFiles {
                let path = "\(origin)/\(component.rawValue)/\(file)"
                guard FileManager.default.fileExists(atPath: path) else { continue }
                try copy(path, to: "\(folder)/\(component.rawValue)/\(file)")
            }
        }
        // A tokenizer that stands in must not make the prompt shorter than the model's: T5 would have less to do.
        guard origin != source else { return }
        let path = "\(folder)/\(ModelFolder.Component.tokenizer2.rawValue)/tokenizer_config.json"
        let text = FileManager.default.contents(atPath: path) ?? Data("{}".utf8)
        guard var config = try? JSONSerialization.jsonObject(with: text) as? [String: Any] else {
            throw CheckpointError.malformed(path: path, reason: "it is not a JSON object")
        }
        config["model_max_length"] = Self.textTokens
        try write(
            JSONSerialization.data(withJSONObject: config, options: [.prettyPrinted, .sortedKeys]), to: path)
    }

    /// Copies a file's contents: what lies in a cache is a link.
    private func copy(_ path: String, to target: String) throws {
        let data = try accessing(path) { try Data(contentsOf: URL(filePath: path)) }
        let folder = URL(filePath: target).deletingLastPathComponent()
        try accessing(target) {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
        try write(data, to: target)
    }

    private func write(_ data: Data, to path: String) throws {
        try accessing(path) { try data.write(to: URL(filePath: path), options: .atomic) }
    }

    private func accessing<Result>(_ path: String, _ body: () throws -> Result) throws(CheckpointError) -> Result {
        do {
            return try body()
        } catch {
            throw .inaccessible(path: path, reason: error.localizedDescription)
        }
    }
}
