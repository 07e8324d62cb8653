import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Nibble files and Nunchaku Lite folders that are not what the engine needs: each has an error that says what is wrong.
@Suite(.enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"))
struct NibbleBadFileTests {
    private let folder: TemporaryFolder
    private let path: String
    private let layer: Int4Layer
    private let pool = ThreadPool(threadCount: 1)

    init() throws {
        folder = try TemporaryFolder()
        path = folder.path + "/model.safetensors"
        let original = try NunchakuCheckpoint(try #require(GoldenInt4Model.all.first).file)
        try original.writeNibble(to: path, on: pool)
        layer = try #require(original.layers.first { $0.name.hasSuffix(".mlp_fc1") })
    }

    /// Rewrites the file, in its order, with other tensors.
    private func edit(_ body: (inout [String: Tensor]) throws -> Void) throws -> String {
        let file = try SafetensorsFile(path)
        var tensors: [String: Tensor] = [:]
        for name in file.tensorNames { tensors[name] = try file.tensor(name) }
        try body(&tensors)
        return try write(tensors, metadata: file.metadata)
    }

    /// Rewrites the file with other metadata.
    private func edit(metadata body: ([String: String]) -> [String: String]) throws -> String {
        let file = try SafetensorsFile(path)
        var tensors: [String: Tensor] = [:]
        for name in file.tensorNames { tensors[name] = try file.tensor(name) }
        return try write(tensors, metadata: body(file.metadata))
    }

    private func write(_ tensors: [String: Tensor], metadata: [String: String]) throws -> String {
        let file = try SafetensorsFile(path)
        let names = file.entries.map(\.name) + tensors.keys.filter { file.entry($0) == nil }
        let declarations = names.compactMap { name in
            tensors[name].map { TensorDeclaration(name: name, dtype: $0.dtype, shape: $0.shape) }
        }
        let target = folder.path + "/edited.safetensors"
        let writer = try SafetensorsWriter(
            target, tensors: declarations, metadata: metadata, order: .asListed(alignment: 64))
        for (name, tensor) in tensors { try writer.write(name, tensor) }
        try writer.finish()
        return target
    }

    private func error(_ path: String) -> CheckpointError? {
        #expect(throws: CheckpointError.self) { try Checkpoint.openInt4(path) }
    }

    private func copy(_ tensor: Tensor, first bits: UInt16) -> Tensor {
        let copy = Int4LayoutTests.tensor(tensor.copiedBytes, tensor.shape, tensor.dtype)
        copy.mutableAddress.storeBytes(of: bits, as: UInt16.self)
        return copy
    }

    @Test(arguments: ["codes", "scales", "down", "up", "smooth", "smooth_orig", "bias"])
    func missingTensor(_ key: String) throws {
        guard case .missingTensor(_, "\(layer.name).\(key)")? = error(try edit { $0["\(layer.name).\(key)"] = nil })
        else {
            Issue.record("no error of a missing tensor")
            return
        }
    }

    @Test func tensorTooMany() throws {
        let path = try edit { $0["other"] = Tensor(zeros: [1], .bfloat16) }
        guard case .unexpectedTensors(_, ["other"])? = error(path) else {
            Issue.record("no error of a tensor too many")
            return
        }
    }

    @Test(arguments: ["codes", "scales", "up", "smooth", "bias"]) func wrongShape(_ key: String) throws {
        let name = "\(layer.name).\(key)"
        let path = try edit { tensors in
            let tensor = try #require(tensors[name])
            tensors[name] = Tensor(
                zeros: Shape([tensor.shape[0] * 2] + tensor.shape.dimensions.dropFirst()), tensor.dtype)
        }
        guard case .wrongShape(_, name, _, _)? = error(path) else {
            Issue.record("no error of a shape")
            return
        }
    }

    /// Kernels read bfloat16 in place and no other type; vectors are copied and may be float16.
    @Test(arguments: [("scales", DType.float16), ("up", .float16), ("smooth", .float32), ("codes", .int8)])
    func wrongType(_ key: String, _ dtype: DType) throws {
        let name = "\(layer.name).\(key)"
        let path = try edit { $0[name] = Tensor(zeros: try #require($0[name]).shape, dtype) }
        guard case .wrongType(_, name, dtype.rawValue, _)? = error(path) else {
            Issue.record("no error of a type")
            return
        }
    }

    @Test(arguments: [0, 8, 2000]) func ranks(_ rank: Int) throws {
        let path = try edit {
            $0["\(layer.name).down"] = Tensor(zeros: [layer.inputs / 2, rank, 2], .bfloat16)
            $0["\(layer.name).up"] = Tensor(zeros: [layer.outputs / 16, rank, 16], .bfloat16)
        }
        guard case .malformedTensor(_, "\(layer.name).down", let reason)? = error(path), reason.contains("rank of")
        else {
            Issue.record("no error of a rank")
            return
        }
    }

    @Test func truncatedFile() throws {
        truncate(path, off_t(try SafetensorsFile(path).byteCount - 1))
        // A file that is cut short is no 4-bit file to anyone; opening it says why.
        #expect(Checkpoint.int4Form(of: path) == nil)
        guard case .malformedTensor? = error(path) else {
            Issue.record("no error of a file that is cut short")
            return
        }
    }

    /// Key, what is replaced, by what, and what the error names.
    private static let lies = [
        ("format_version", "1", "2", "format_version"),
        ("config", "\"num_layers\": ", "\"num_layers\": 1", ""),
        ("quantization_config", "\"rank\": ", "\"rank\": 1", "rank"),
        ("quantization_config", "svdquant", "gptq", "method"),
        ("quantization_config", "\"group_size\": 64", "\"group_size\": 128", "group_size"),
        ("model_class", "Flux", "Qwen", "model_class"),
        ("config", "\"attention_head_dim\": ", "\"attention_head_dim\": 99999", "attention_head_dim"),
    ]

    @Test(arguments: lies.indices) func metadataThatLies(_ index: Int) throws {
        let (key, original, lie, named) = Self.lies[index]
        let path = try edit(metadata: { strings in
            var strings = strings
            strings[key] = strings[key]?.replacingOccurrences(of: original, with: lie)
            return strings
        })
        #expect(try SafetensorsFile(path).metadata != SafetensorsFile(self.path).metadata)
        switch error(path) {
        case .wrongConfiguration(_, let found, _, _)?: #expect(!named.isEmpty && found.contains(named), "\(found)")
        // More blocks than there are.
        case .missingTensor?: #expect(named.isEmpty)
        case let other: Issue.record("\(String(describing: other))")
        }
    }

    @Test(arguments: ["format_version", "config", "quantization_config"]) func metadataThatIsMissing(
        _ key: String
    ) throws {
        let path = try edit(metadata: { $0.filter { $0.key != key } })
        guard case .wrongConfiguration(_, "__metadata__.\(key)", "missing", _)? = error(path) else {
            Issue.record("no error of missing \(key)")
            return
        }
    }

    /// Eight more spaces in the header move all data by eight bytes.
    @Test func misaligned() throws {
        var data = try Data(contentsOf: URL(filePath: path))
        let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        data.insert(contentsOf: [UInt8](repeating: 0x20, count: 8), at: 8 + length)
        withUnsafeBytes(of: UInt64(length + 8).littleEndian) { data.replaceSubrange(0..<8, with: $0) }
        let moved = try folder.write("moved.safetensors", Array(data))
        guard case .malformedTensor(_, _, let reason)? = error(moved), reason.contains("multiple of 64") else {
            Issue.record("no error of data that lie elsewhere")
            return
        }
    }

    /// Opening reads no weights, so that a bad number is found by those who look: verification, conversion.
    @Test(arguments: [
        ("scales", UInt16(0x7fc0), "is nan"), ("scales", 0, "but its codes are not"), ("up", 0x7f80, "infinity"),
        ("down", 0x7fc0, "NaN"),
    ])
    func badNumbersAreFoundWhereTheyAreReadAll(_ key: String, _ bits: UInt16, _ word: String) throws {
        let name = "\(layer.name).\(key)"
        let checkpoint = try NibbleCheckpoint(try edit { $0[name] = copy(try #require($0[name]), first: bits) })
        _ = try checkpoint.packed(layer, on: pool)
        let target = folder.path + "/x.safetensors"
        for attempt in [
            { try checkpoint.verifyLayers(on: pool) }, { try checkpoint.writeNunchaku(to: target, on: pool) },
            { try checkpoint.writeNibble(to: target, on: pool) },
        ] {
            guard
                case .malformedTensor(_, name, let reason)? = #expect(
                    throws: CheckpointError.self, performing: attempt), reason.contains(word)
            else {
                Issue.record("no error of \(name)")
                return
            }
        }
        #expect(!folder.names.contains("x.safetensors"))
    }

    /// Vectors are copied when a layer is opened, and looked at then.
    @Test(arguments: [("smooth", UInt16(0), "divided by 0"), ("bias", 0x7f80, "infinity")])
    func badVectorsAreFoundWhenALayerIsOpened(_ key: String, _ bits: UInt16, _ word: String) throws {
        let name = "\(layer.name).\(key)"
        let checkpoint = try NibbleCheckpoint(try edit { $0[name] = copy(try #require($0[name]), first: bits) })
        guard
            case .malformedTensor(_, name, let reason)? = #expect(
                throws: CheckpointError.self, performing: { try checkpoint.packed(layer, on: pool) }),
            reason.contains(word)
        else {
            Issue.record("no error of \(name)")
            return
        }
    }

    /// Any byte of the header may be any other.
    @Test func headersWithWrongBytes() throws {
        let data = [UInt8](try Data(contentsOf: URL(filePath: path)))
        let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        var generator = TestGenerator(seed: 9)
        var refused = 0
        for _ in 0..<60 {
            var bytes = data
            for _ in 0..<Int.random(in: 1...2, using: &generator) {
                let place = 8 + Int.random(in: 0..<length, using: &generator)
                bytes[place] = try #require(Array("0123456789-{}[]\",:exs.".utf8).randomElement(using: &generator))
            }
            let changed = try folder.write("changed.safetensors", bytes)
            do throws(CheckpointError) {
                let checkpoint = try Checkpoint.openInt4(changed)
                for layer in checkpoint.layers where checkpoint.rank(of: layer) != nil {
                    _ = try checkpoint.packed(layer, on: pool)
                }
            } catch { refused += 1 }
        }
        #expect(refused > 30)
    }

    // MARK: - Nunchaku Lite

    /// Key, what is replaced in `config.json`, by what.
    private static let liteLies = [
        ("precision", "\"precision\" : \"int4\"", "\"precision\" : \"int8\""),
        ("group_size", "\"group_size\" : 64", "\"group_size\" : 32"),
        ("rank", "\"rank\" : ", "\"rank\" : 16"),
        ("targets", "\"single_transformer_blocks.0.attn.to_q\"", "\"single_transformer_blocks.0.attn.to_qq\""),
        ("targets", "\"single_transformer_blocks.0.attn.to_q\"", "\"single_transformer_blocks.0.norm.linear\""),
        ("quant_method", "nunchaku_lite", "gguf"),
    ]

    @Test(arguments: liteLies.indices) func liteConfigurationThatLies(_ index: Int) throws {
        let lite = try writtenLite()
        let (key, original, lie) = Self.liteLies[index]
        let text = try String(contentsOfFile: lite + "/config.json", encoding: .utf8)
        #expect(text.contains(original))
        try folder.write("lite/config.json", text.replacingOccurrences(of: original, with: lie))
        guard case .wrongConfiguration(_, let found, _, _)? = error(lite), found.contains(key) else {
            Issue.record("no error of \(key)")
            return
        }
    }

    @Test func liteFoldersThatDoNotFit() throws {
        let lite = try writtenLite()
        let text = try String(contentsOfFile: lite + "/config.json", encoding: .utf8)
        try folder.write("lite/config.json", text.replacingOccurrences(of: "\"int4\"", with: "\"nvfp4\""))
        guard case .wrongFormat(_, let found, _)? = error(lite), found.contains("NVFP4") else {
            Issue.record("no error of NVFP4")
            return
        }
        // A target less: its tensors are those of a layer that is not quantized, and those are not there.
        try folder.write(
            "lite/config.json", text.replacingOccurrences(of: "\"single_transformer_blocks.0.attn.to_q\",", with: ""))
        guard case .missingTensor(_, "single_transformer_blocks.0.attn.to_q.weight")? = error(lite) else {
            Issue.record("no error of a missing layer")
            return
        }
        try FileManager.default.removeItem(atPath: lite + "/config.json")
        guard case .missingFile? = error(lite) else {
            Issue.record("no error of a missing configuration")
            return
        }
    }

    private func writtenLite() throws -> String {
        let lite = folder.path + "/lite"
        try Checkpoint.openInt4(path).writeLite(to: lite, on: pool)
        return lite
    }
}
