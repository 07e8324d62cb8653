internal import Foundation
public import NibbleTensors

/// What a checkpoint or a model folder holds.
public struct Inspection: Sendable {
    /// A tensor and the file that it is in.
    public struct StoredTensor: Sendable {
        /// What the header says.
        public let entry: TensorEntry
        /// The file.
        public let file: String
    }

    /// Weights that belong together: one file, or an index with its shards.
    public struct Component: Sendable {
        /// The component's folder in a model folder, otherwise the file's name.
        public let name: String
        /// The file or the index.
        public let path: String
        /// What it is.
        public let kind: CheckpointKind
        /// The tensors, by name.
        public let tensors: [StoredTensor]
        /// The strings of `__metadata__`.
        public let metadata: [String: String]

        /// The weights of the network; see `CheckpointKind.parameterCount`.
        public var parameterCount: Int { tensors.reduce(0) { $0 + kind.parameterCount(of: $1.entry) } }
        /// Bytes of all tensors.
        public var byteCount: Int { tensors.reduce(0) { $0 + $1.entry.byteRange.count } }
    }

    /// Tensors that are counted together.
    public struct Total: Sendable, Equatable {
        /// How many tensors.
        public var tensors = 0
        /// Their elements as stored.
        public var elements = 0
        /// Their bytes.
        public var bytes = 0
        /// Their types.
        public var dtypes: Set<DType> = []

        mutating func add(_ entry: TensorEntry) {
            tensors += 1
            elements += entry.shape.elementCount
            bytes += entry.byteRange.count
            dtypes.insert(entry.dtype)
        }
    }

    /// What was inspected.
    public let path: String
    /// `_class_name` of `model_index.json`, where there is one.
    public let pipeline: String?
    /// Folders that `model_index.json` lists and that are not there.
    public let missingComponents: [String]
    /// The weights.
    public let components: [Component]

    /// Reads all headers below a path.
    ///
    /// - Parameter path: a file, an index, a component's folder, a model folder, or a folder of safetensors files.
    /// - Throws: `CheckpointError`.
    public init(_ path: String) throws(CheckpointError) {
        self.path = path
        let indexPath = path.appendingPath("model_index.json")
        if indexPath.isExistingFile {
            let index = try decodeConfiguration(indexPath, as: PipelineIndex.self)
            pipeline = index.className
            missingComponents = index.folders.filter { !path.appendingPath($0).isExistingFile }
            var components: [Component] = []
            for name in index.folders where try Self.hasWeights(path.appendingPath(name)) {
                components.append(try Component(path.appendingPath(name), name: name))
            }
            self.components = components
            return
        }
        pipeline = nil
        missingComponents = []
        let names = path.isExistingFolder ? try Checkpoint.fileNames(in: path) : []
        let files = names.filter { $0.hasSuffix(".safetensors") }
        if !files.isEmpty, (try? Checkpoint.weightsFile(at: path)) == nil {
            var components: [Component] = []
            for name in files { components.append(try Component(path.appendingPath(name), name: name)) }
            self.components = components
        } else {
            components = [try Component(path, name: nil)]
        }
    }

    private static func hasWeights(_ folder: String) throws(CheckpointError) -> Bool {
        guard folder.isExistingFolder else { return false }
        return try Checkpoint.fileNames(in: folder).contains {
            $0.hasSuffix(".safetensors") || $0.hasSuffix(".safetensors.index.json")
        }
    }
}

extension Inspection.Component {
    init(_ path: String, name: String?) throws(CheckpointError) {
        let file = try Checkpoint.weightsFile(at: path)
        let source: any TensorSource
        let shards: [SafetensorsFile]
        if file.hasSuffix(".json") {
            let sharded = try ShardedCheckpoint(index: file)
            (source, shards) = (sharded, sharded.shards)
        } else {
            let single = try SafetensorsFile(file)
            (source, shards) = (single, [single])
        }
        self.path = file
        self.name = name ?? String(file.dropFirst(file.folderOfPath.count))
        tensors = shards.flatMap { shard in shard.entries.map { .init(entry: $0, file: shard.location) } }
            .filter { source.tensorNames.contains($0.entry.name) }.sorted { $0.entry.name < $1.entry.name }
        metadata = shards.reduce(into: [:]) { $0.merge($1.metadata) { first, _ in first } }
        kind = CheckpointKind(
            OriginalFluxCheckpoint(source) ?? source, entries: tensors.map(\.entry), metadata: metadata)
    }

    /// Totals for each type of element.
    public var totalsByType: [DType: Inspection.Total] {
        tensors.reduce(into: [:]) { $0[$1.entry.dtype, default: .init()].add($1.entry) }
    }

    /// Totals for each part of the network: names up to the first number, which `*` stands for, or up to the first dot.
    public var totalsByGroup: [String: Inspection.Total] {
        tensors.reduce(into: [:]) { $0[Self.group(of: $1.entry.name), default: .init()].add($1.entry) }
    }

    private static func group(of name: String) -> String {
        let parts = name.split(separator: ".")
        guard let number = parts.firstIndex(where: { Int($0) != nil }), number > 0 else {
            return parts.first.map(String.init) ?? name
        }
        return parts[..<number].joined(separator: ".") + ".*"
    }
}

/// `model_index.json` of any pipeline: component folders are the keys whose value is a list of library and class.
private struct PipelineIndex: Decodable {
    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    let className: String
    let folders: [String]

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        className = try container.decode(String.self, forKey: Key(stringValue: "_class_name"))
        folders = container.allKeys.filter { key in
            let parts = try? container.decode([String?].self, forKey: key)
            let isFolder = !key.stringValue.hasPrefix(".") && !key.stringValue.contains("/")
            return isFolder && parts?.count == 2 && parts?.allSatisfy { $0 != nil } == true
        }.map(\.stringValue).sorted()
    }
}

extension String {
    /// Whether there is a folder of that path.
    var isExistingFolder: Bool {
        var isFolder: ObjCBool = false
        return FileManager.default.fileExists(atPath: self, isDirectory: &isFolder) && isFolder.boolValue
    }
}
