internal import Foundation

/// Writes the weights of a model as diffusers and transformers save them: one safetensors file, or several of at most
/// 10 GB and an index that tells which tensor is in which.
public struct ShardedWriter: Sendable {
    /// diffusers' `max_shard_size`.
    public static let usualShardBytes = 10_000_000_000

    private let folder: String
    private let stem: String
    private let shards: [[TensorDeclaration]]

    /// Shares tensors out.
    ///
    /// - Parameters:
    ///   - folder: the component's folder, which must be there.
    ///   - stem: the files' name without ending: `diffusion_pytorch_model` or `model`.
    ///   - tensors: all tensors, in the order in which they are shared out; names must differ.
    ///   - shardBytes: what the tensors of a file add up to at most, if it has more than one.
    public init(
        folder: String, stem: String, tensors: [TensorDeclaration], shardBytes: Int = Self.usualShardBytes
    ) {
        self.folder = folder
        self.stem = stem
        var shards: [[TensorDeclaration]] = [[]]
        var bytes = 0
        for tensor in tensors {
            if bytes > 0, bytes + tensor.byteCount > shardBytes {
                shards.append([])
                bytes = 0
            }
            shards[shards.count - 1].append(tensor)
            bytes += tensor.byteCount
        }
        self.shards = shards
    }

    /// Writes all files; the index last, so that what it names is there.
    ///
    /// - Parameter body: writes all tensors of a file, which its `declarations` are. What it throws ends the work; files
    ///   that were finished before stay.
    /// - Throws: `CheckpointError`, or what the body throws.
    public func write(_ body: (SafetensorsWriter) throws -> Void) throws {
        var places: [String: String] = [:]
        for (index, tensors) in shards.enumerated() {
            let name = name(of: index)
            // As PyTorch's writers say; some readers ask for it.
            let writer = try SafetensorsWriter(
                folder.appendingPath(name), tensors: tensors, metadata: ["format": "pt"])
            try body(writer)
            try writer.finish()
            for tensor in tensors { places[tensor.name] = name }
        }
        guard shards.count > 1 else { return }
        let index = Index(
            metadata: .init(totalSize: shards.joined().reduce(0) { $0 + $1.byteCount }), weightMap: places)
        let path = folder.appendingPath("\(stem).safetensors.index.json")
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            try encoder.encode(index).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw CheckpointError.inaccessible(path: path, reason: error.localizedDescription)
        }
    }

    private func name(of shard: Int) -> String {
        guard shards.count > 1 else { return "\(stem).safetensors" }
        func digits(_ number: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, 5 - text.count)) + text
        }
        return "\(stem)-\(digits(shard + 1))-of-\(digits(shards.count)).safetensors"
    }

    private struct Index: Encodable {
        struct Metadata: Encodable {
            let totalSize: Int
            enum CodingKeys: String, CodingKey { case totalSize = "total_size" }
        }
        let metadata: Metadata
        let weightMap: [String: String]

        enum CodingKeys: String, CodingKey {
            case metadata
            case weightMap = "weight_map"
        }
    }
}
