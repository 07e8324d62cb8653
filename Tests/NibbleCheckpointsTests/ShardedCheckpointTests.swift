import NibbleTensors
import Testing

@testable import NibbleCheckpoints

@Suite struct ShardedCheckpointTests {
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try folder.write("model-00001-of-00002.safetensors", Self.shard("a", 1))
        try folder.write("model-00002-of-00002.safetensors", Self.shard("b", 2))
    }

    private static func shard(_ name: String, _ value: UInt8) -> [UInt8] {
        safetensors("{\"\(name)\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", data: [value])
    }

    private func index(_ map: String) throws -> String {
        try folder.write(
            "model.safetensors.index.json", #"{"metadata":{"total_size":2,"x":[null,1.5]},"weight_map":{\#(map)}}"#)
    }

    @Test func readsFromTheShardThatTheIndexNames() throws {
        let path = try index(
            #""a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors""#)
        for source in [try ShardedCheckpoint(index: path), try Checkpoint.open(folder.path)] as [any TensorSource] {
            #expect(source.tensorNames == ["a", "b"] && source.location == path)
            #expect(try source.tensor("a").copiedBytes[0] == 1 && source.tensor("b").copiedBytes[0] == 2)
            #expect(throws: CheckpointError.missingTensor(path: path, name: "c")) { try source.tensor("c") }
        }
    }

    @Test func missingShard() throws {
        let path = try index(#""a":"model-00009-of-00009.safetensors""#)
        #expect(
            throws: CheckpointError.missingFile(
                path: folder.path + "/model-00009-of-00009.safetensors", neededBy: path)
        ) { try ShardedCheckpoint(index: path) }
    }

    @Test func tensorInAnotherShard() throws {
        let path = try index(
            #""b":"model-00001-of-00002.safetensors","a":"model-00001-of-00002.safetensors""#)
        let error = #expect(throws: CheckpointError.self) { try ShardedCheckpoint(index: path) }
        #expect(error?.description.contains("tensor 'b': ") == true)
        let both = try index(
            #""b":"model-00001-of-00002.safetensors","a":"model-00002-of-00002.safetensors""#)
        let second = #expect(throws: CheckpointError.self) { try ShardedCheckpoint(index: both) }
        #expect(second?.description.contains("it is in \(folder.path)/model-0000") == true)
    }

    @Test func truncatedShard() throws {
        try folder.write("model-00002-of-00002.safetensors", Array(Self.shard("b", 2).dropLast()))
        let path = try index(
            #""a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors""#)
        let error = #expect(throws: CheckpointError.self) { try ShardedCheckpoint(index: path) }
        #expect(error?.description.contains("model-00002-of-00002.safetensors: tensor 'b'") == true)
        #expect(error?.description.contains("cut short") == true)
    }

    @Test(arguments: [
        "../model.safetensors", "/etc/model.safetensors", "sub/model.safetensors", "..", "a\\\\b.safetensors",
        "\\u0000.safetensors", "pytorch_model.bin", "",
    ])
    func shardNamesThatLeaveTheFolder(_ name: String) throws {
        let path = try index("\"a\":\"\(name)\"")
        guard
            case .malformed(path, _)? = #expect(
                throws: CheckpointError.self, performing: { try ShardedCheckpoint(index: path) })
        else {
            Issue.record("\(name) was not refused as it should")
            return
        }
    }

    @Test(arguments: [
        "", "{", "[]", "{}", #"{"weight_map":{}}"#, #"{"weight_map":[]}"#, #"{"weight_map":{"a":1}}"#,
        #"{"weight_map":{"a":"x.safetensors"},"weight_map":{"a":"x.safetensors"}}"#,
        #"{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}"#,
    ])
    func badIndexes(_ text: String) throws {
        let path = try folder.write("model.safetensors.index.json", text)
        guard
            case .malformed(path, _)? = #expect(
                throws: CheckpointError.self, performing: { try ShardedCheckpoint(index: path) })
        else {
            Issue.record("\(text) was not refused as it should")
            return
        }
    }
}

/// Which file of a folder is taken.
@Suite struct CheckpointTests {
    private static let file = safetensors(#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, data: [1])

    @Test(arguments: [
        (["model.safetensors"], "model.safetensors"),
        (["diffusion_pytorch_model.safetensors", "config.json"], "diffusion_pytorch_model.safetensors"),
        (["model.safetensors", "model.fp16.safetensors"], "model.safetensors"),
        (["model.fp16.safetensors", "model.fp16-00001-of-00002.safetensors"], "model.fp16.safetensors"),
        (["model.safetensors", "model.safetensors.index.json"], "model.safetensors.index.json"),
        (
            ["model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"],
            "model.safetensors.index.fp16.json"
        ),
    ])
    func choosesFromAFolder(_ names: [String], _ expected: String) throws {
        let folder = try TemporaryFolder()
        for name in names { try folder.write(name, Self.file) }
        #expect(try Checkpoint.weightsFile(at: folder.path) == folder.path + "/" + expected)
    }

    @Test(arguments: [
        ([], "there is no diffusion_pytorch_model.safetensors"),
        (["model.fp16.safetensors", "model.bf16.safetensors"], "several variants"),
        (["model-00001-of-00002.safetensors"], "their .index.json is missing"),
        (["pytorch_model.bin"], "'pytorch_model.bin' is not in the safetensors format"),
    ])
    func refusesAFolder(_ names: [String], _ message: String) throws {
        let folder = try TemporaryFolder()
        for name in names { try folder.write(name, Self.file) }
        let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(folder.path) }
        #expect(error?.description.contains(message) == true, "\(String(describing: error))")
    }

    @Test func refusesWhatIsNotThere() {
        #expect(throws: CheckpointError.inaccessible(path: "/none", reason: "there is no such file or folder")) {
            try Checkpoint.open("/none")
        }
    }
}
