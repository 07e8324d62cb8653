import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Files that are not what an engine needs: each has an error that says what is wrong.
@Suite(.enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"))
struct Int4BadFileTests {
    private let folder: TemporaryFolder
    private let edited: EditedCheckpoint
    private let layer: Int4Layer
    private let modulation: Int4Layer
    private let metadata: [String: String]

    init() throws {
        let model = try #require(GoldenInt4Model.all.first)
        folder = try TemporaryFolder()
        edited = try EditedCheckpoint(model.file)
        metadata = edited.metadata
        let layers = try NunchakuCheckpoint(model.file).layers
        layer = try #require(layers.first { $0.name.hasSuffix(".mlp_fc1") })
        modulation = try #require(layers.first { $0.name.hasSuffix(".norm.linear") })
    }

    private func opened() throws -> NunchakuCheckpoint { try NunchakuCheckpoint(edited.write(to: folder)) }

    private func error() throws -> CheckpointError? {
        let path = try edited.write(to: folder)
        return #expect(throws: CheckpointError.self) { try NunchakuCheckpoint(path) }
    }

    private func replace(_ key: String, _ dtype: DType, _ shape: Shape) {
        edited.tensors["\(layer.name).\(key)"] = Tensor(zeros: shape, dtype)
    }

    /// Whether the error is about a tensor of the layer, and says a word.
    private func expectTensor(_ error: CheckpointError?, _ key: String, says word: String) {
        guard case .malformedTensor(_, let name, let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(name == "\(layer.name).\(key)" && reason.contains(word), "\(reason)")
    }

    @Test(arguments: ["qweight", "wscales", "smooth", "smooth_orig", "lora_down", "lora_up", "bias"])
    func missingTensor(_ key: String) throws {
        edited.tensors["\(layer.name).\(key)"] = nil
        guard case .missingTensor(_, "\(layer.name).\(key)")? = try error() else {
            Issue.record("no error of a missing tensor")
            return
        }
    }

    @Test func tensorTooMany() throws {
        edited.tensors["transformer_blocks.0.other"] = Tensor(zeros: [1], .bfloat16)
        guard case .unexpectedTensors(_, ["transformer_blocks.0.other"])? = try error() else {
            Issue.record("no error of a tensor too many")
            return
        }
    }

    @Test func groupsOfAnotherSize() throws {
        replace("wscales", .bfloat16, [layer.inputs / 32, layer.outputs])
        expectTensor(try error(), "wscales", says: "of 32 inputs")
    }

    @Test func sizesThatAreNoMultiplesOf128() throws {
        replace("qweight", .int8, [layer.outputs - 64, layer.inputs / 2])
        expectTensor(try error(), "qweight", says: "multiples of 128")
        replace("qweight", .int8, [layer.outputs, layer.inputs / 2 + 32])
        expectTensor(try error(), "qweight", says: "multiples of 128")
        replace("qweight", .int8, [0, Int.max / 2])
        expectTensor(try error(), "qweight", says: "multiples of 128")
    }

    @Test(arguments: [0, 8, 1000, 1040]) func ranks(_ rank: Int) throws {
        replace("lora_down", .bfloat16, [layer.inputs, rank])
        replace("lora_up", .bfloat16, [layer.outputs, rank])
        expectTensor(try error(), "lora_down", says: "rank of \(rank);")
    }

    @Test func otherShapesAndTypes() throws {
        replace("lora_up", .bfloat16, [layer.outputs + 16, 32])
        guard case .wrongShape(_, "\(layer.name).lora_up", _, _)? = try error() else {
            Issue.record("no error of a shape")
            return
        }
        replace("lora_up", .float32, [layer.outputs, 32])
        guard case .wrongType(_, "\(layer.name).lora_up", "F32", _)? = try error() else {
            Issue.record("no error of a type")
            return
        }
    }

    @Test func nvfp4() throws {
        for key in ["weight", "activation"] {
            edited.metadata["quantization_config"] = metadata["quantization_config"]?
                .replacingOccurrences(
                    of: "\"\(key)\": {\"dtype\": \"int4\"", with: "\"\(key)\": {\"dtype\": \"fp4_e2m1_all\"")
            let error = try error()
            guard case .wrongFormat(_, let found, _)? = error, found.contains("NVFP4") else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        edited.metadata = metadata
        replace("wscales", .float8E4M3, [layer.inputs / 16, layer.outputs])
        let error = try error()
        guard case .wrongFormat(_, let found, _)? = error, found.contains("NVFP4") else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func loraAndUnquantizedModel() throws {
        for name in edited.tensors.keys where !name.hasSuffix(".lora_down") && !name.hasSuffix(".lora_up") {
            edited.tensors[name] = nil
        }
        guard case .wrongFormat(_, let found, _)? = try error(), found.contains("LoRA") else {
            Issue.record("no error of a LoRA")
            return
        }
        edited.tensors = ["x": Tensor(zeros: [1], .float32)]
        guard case .wrongFormat? = try error() else {
            Issue.record("no error of another kind")
            return
        }
    }

    /// Key, what is replaced, by what, and the key that the error names.
    private static let lies = [
        ("config", "\"num_layers\": ", "\"num_layers\": 1", ""),
        ("quantization_config", "\"rank\": ", "\"rank\": 1", "rank"),
        ("quantization_config", "svdquant", "gptq", "method"),
        ("quantization_config", "\"group_size\": 64", "\"group_size\": 128", "group_size"),
        ("quantization_config", "\"int4\"", "\"int8\"", "dtype"),
        ("model_class", "Flux", "Qwen", "model_class"),
        ("config", "FluxTransformer2DModel", "UNet2DConditionModel", "_class_name"),
        ("config", "\"attention_head_dim\": ", "\"attention_head_dim\": 99999", "attention_head_dim"),
    ]

    @Test(arguments: lies.indices) func metadataThatLies(_ index: Int) throws {
        let (key, original, lie, named) = Self.lies[index]
        edited.metadata[key] = metadata[key]?.replacingOccurrences(of: original, with: lie)
        #expect(edited.metadata[key] != metadata[key])
        switch try error() {
        case .wrongConfiguration(_, let found, _, _)?: #expect(!named.isEmpty && found.contains(named), "\(found)")
        // More blocks than there are.
        case .missingTensor?: #expect(named.isEmpty)
        case let other: Issue.record("\(String(describing: other))")
        }
    }

    @Test func metadataThatIsMissingOrNoJSON() throws {
        for key in ["config", "quantization_config"] {
            edited.metadata = metadata
            edited.metadata[key] = nil
            guard case .wrongConfiguration(_, "__metadata__.\(key)", "missing", _)? = try error() else {
                Issue.record("no error of missing \(key)")
                return
            }
            edited.metadata[key] = "{"
            guard case .malformed? = try error() else {
                Issue.record("no error of broken \(key)")
                return
            }
        }
    }

    @Test func fewerBlocksThanTensors() throws {
        let config = try #require(metadata["config"])
        edited.metadata["config"] = config.replacing(#/"num_single_layers": \d+/#, with: #""num_single_layers": 0"#)
        guard case .unexpectedTensors? = try error() else {
            Issue.record("no error of blocks too many")
            return
        }
    }

    @Test func numbersAreCheckedWhenALayerIsRead() throws {
        func spoil(_ name: String, _ bits: UInt16) throws -> Tensor {
            let original = try #require(edited.tensors[name])
            let copy = Int4LayoutTests.tensor(original.copiedBytes, original.shape, original.dtype)
            copy.mutableAddress.storeBytes(of: bits, as: UInt16.self)
            return copy
        }
        let faults = [
            ("wscales", 0, "but its codes are not"), ("wscales", 0x7fc0, "is nan"), ("smooth", 0, "divided by 0"),
            ("lora_up", 0x7f80, "NaN or infinity"),
        ]
        for (key, bits, word) in faults {
            let name = "\(layer.name).\(key)"
            let original = edited.tensors[name]
            edited.tensors[name] = try spoil(name, UInt16(bits))
            let checkpoint = try opened()
            expectTensor(
                #expect(throws: CheckpointError.self) { try checkpoint.weights(layer) }, key, says: word)
            edited.tensors[name] = original
        }
        for (key, bits) in [("wscales", 0), ("wzeros", 0x7f80)] {
            let name = "\(modulation.name).\(key)"
            let original = edited.tensors[name]
            edited.tensors[name] = try spoil(name, UInt16(bits))
            let checkpoint = try opened()
            guard
                case .malformedTensor(_, name, _)? =
                    #expect(throws: CheckpointError.self, performing: { try checkpoint.modulation(modulation) })
            else {
                Issue.record("no error of \(name)")
                continue
            }
            edited.tensors[name] = original
        }
    }

    @Test func namesThatMeanTheSame() throws {
        edited.tensors["\(layer.name).proj_down"] = edited.tensors["\(layer.name).lora_down"]
        guard case .malformedTensor(_, _, let reason)? = try error(), reason.contains("there twice") else {
            Issue.record("no error of a tensor that is there twice")
            return
        }
    }

    /// Any byte of the configurations may be any other.
    @Test func metadataWithWrongBytes() throws {
        var generator = TestGenerator(seed: 4)
        var refused = 0
        for _ in 0..<2000 {
            var strings = metadata
            let key = try #require(["config", "quantization_config"].randomElement(using: &generator))
            var bytes = Array(try #require(strings[key]).utf8)
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let place = Int.random(in: bytes.indices, using: &generator)
                bytes[place] = try #require(Array("0123456789-{}[]\",:ex".utf8).randomElement(using: &generator))
            }
            strings[key] = String(decoding: bytes, as: UTF8.self)
            do throws(CheckpointError) {
                let parsed = try Int4Metadata(strings, path: "file")
                #expect(Int4FluxSchema(parsed.sizes).layers.count <= 10 * 1024 + 5 * 1024)
            } catch { refused += 1 }
        }
        #expect(refused > 100)
    }

    @Test func truncatedFile() throws {
        let path = try edited.write(to: folder)
        truncate(path, off_t(try SafetensorsFile(path).byteCount - 1))
        #expect(throws: CheckpointError.self) { try NunchakuCheckpoint(path) }
    }

    @Test func foldersThatDoNotFit() throws {
        let model = try #require(GoldenInt4Model.all.first)
        func copy(without missing: String? = nil) throws {
            for name in ["transformer_blocks.safetensors", "unquantized_layers.safetensors", "config.json"] {
                let data = try Data(contentsOf: URL(filePath: "\(model.legacy)/\(name)"))
                if name == missing {
                    try? FileManager.default.removeItem(atPath: "\(folder.path)/\(name)")
                } else {
                    try folder.write(name, Array(data))
                }
            }
        }
        try copy()
        guard
            case .wrongFormat? =
                #expect(throws: CheckpointError.self, performing: { try NunchakuCheckpoint(NSTemporaryDirectory()) })
        else {
            Issue.record("no error of a folder of something else")
            return
        }
        // comfy_config.json is for another program; its place stays empty.
        #expect(try NunchakuCheckpoint(folder.path).metadata["comfy_config"] == "")
        for name in ["transformer_blocks.safetensors", "unquantized_layers.safetensors", "config.json"] {
            try copy(without: name)
            guard
                case .missingFile? = #expect(
                    throws: CheckpointError.self, performing: { try NunchakuCheckpoint(folder.path) })
            else {
                Issue.record("no error of missing \(name)")
                return
            }
        }
        try copy()
        let config = try String(contentsOfFile: model.legacy + "/config.json", encoding: .utf8)
        try folder.write(
            "config.json", config.replacing(#/"num_attention_heads": \d+/#, with: #""num_attention_heads": 8"#))
        guard
            case .wrongShape? = #expect(
                throws: CheckpointError.self, performing: { try NunchakuCheckpoint(folder.path) })
        else {
            Issue.record("no error of a configuration that does not fit")
            return
        }
    }
}
