public import NibbleTensors

/// Several safetensors files and the index that tells which tensor is in which
/// (`*.safetensors.index.json`, as transformers and diffusers write it).
public struct ShardedCheckpoint: TensorSource {
    /// Large enough for an index of some hundred thousand tensors.
    private static let maximumIndexSize = 64 << 20

    /// The index file.
    public let location: String
    /// The names that the index lists.
    public let tensorNames: Set<String>
    /// The files, by name.
    public let shards: [SafetensorsFile]

    private let shardOf: [String: Int]

    /// Reads an index and opens its shards.
    ///
    /// - Parameter indexPath: the index; the shards lie beside it.
    /// - Throws: `CheckpointError`: `.missingFile` for a shard that is not there, `.malformedTensor` for a tensor that is
    ///   not in its shard.
    public init(index indexPath: String) throws(CheckpointError) {
        let weightMap = try Self.readWeightMap(indexPath)
        let names = Set(weightMap.values).sorted()
        let folder = indexPath.folderOfPath
        var shards: [SafetensorsFile] = []
        for name in names {
            do throws(CheckpointError) {
                shards.append(try SafetensorsFile(folder + name))
            } catch .inaccessible(let path, _) where !path.isExistingFile {
                throw .missingFile(path: path, neededBy: indexPath)
            }
        }
        let positions = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        let shardOf = weightMap.compactMapValues { positions[$0] }
        for (tensor, shard) in shardOf where !shards[shard].tensorNames.contains(tensor) {
            let elsewhere = shards.first { $0.tensorNames.contains(tensor) }
            let hint = elsewhere.map { "; it is in \($0.location)" } ?? ", nor does any other"
            throw .malformedTensor(
                path: indexPath, name: tensor, reason: "\(shards[shard].location) does not hold it\(hint)")
        }
        location = indexPath
        tensorNames = Set(weightMap.keys)
        self.shards = shards
        self.shardOf = shardOf
    }

    /// A tensor of the shard that the index names.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        guard let shard = shardOf[name] else { throw .missingTensor(path: location, name: name) }
        return try shards[shard].tensor(name)
    }

    private static func readWeightMap(_ path: String) throws(CheckpointError) -> [String: String] {
        let file = try Storage(checkpoint: path)
        guard file.byteCount <= maximumIndexSize else {
            throw .malformed(path: path, reason: "\(file.byteCount) bytes are too many for an index")
        }
        var reader = JSONReader(file.copiedBytes)
        var weightMap: [String: String]?
        do throws(JSONReader.Failure) {
            try reader.object { (reader, key) throws(JSONReader.Failure) in
                guard key == "weight_map" else { return try reader.skipValue() }
                guard weightMap == nil else { throw reader.failure("'weight_map' comes twice") }
                var map: [String: String] = [:]
                try reader.object { (reader, tensor) throws(JSONReader.Failure) in
                    let shard = try reader.string()
                    try checkShardName(shard, &reader)
                    guard map.updateValue(shard, forKey: tensor) == nil else {
                        throw reader.failure("tensor '\(tensor)' is listed twice")
                    }
                }
                weightMap = map
            }
            try reader.end()
        } catch {
            throw .malformed(path: path, reason: "byte \(error.offset): \(error.reason)")
        }
        guard let weightMap, !weightMap.isEmpty else {
            throw .malformed(path: path, reason: "it has no 'weight_map', or an empty one")
        }
        return weightMap
    }

    /// A shard lies beside its index: an index from elsewhere must not make us open any other file.
    private static func checkShardName(_ name: String, _ reader: inout JSONReader) throws(JSONReader.Failure) {
        guard !name.contains(where: { $0 == "/" || $0 == "\\" || $0 == "\0" }), !name.hasPrefix(".") else {
            throw reader.failure("shard '\(name)' is not the name of a file beside the index")
        }
        guard name.hasSuffix(".safetensors") else {
            throw reader.failure("shard '\(name)' is not a .safetensors file; convert the checkpoint to safetensors")
        }
    }
}
