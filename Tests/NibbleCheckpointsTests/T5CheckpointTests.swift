import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// A T5 encoder in 4 bits: what its file holds, what becomes of it, and what is wrong with it.
@Suite struct T5CheckpointTests {
    private let folder: TemporaryFolder
    private let path: String

    init() throws {
        folder = try TemporaryFolder()
        path = folder.path + "/t5.safetensors"
    }

    @Test(arguments: [0, 16])
    func `a file gives back what it was made of`(_ rank: Int) throws {
        let made = try SmallT5File(rank: rank)
        try made.write(to: path)
        let checkpoint = try Checkpoint.openInt4(path)
        #expect(checkpoint.isMapped && checkpoint.structure == .t5)
        #expect(Set(checkpoint.layers.map(\.name)) == Set(made.weights.keys))
        // Two blocks of q|k|v, o and wi; wo has 96 inputs, which are no groups of 64.
        #expect(checkpoint.layers.count == 6)
        #expect(checkpoint.plainTensors.filter { $0.hasSuffix("wo.weight") }.count == 2)
        let pool = ThreadPool(threadCount: 2)
        try checkpoint.verifyLayers(on: pool)
        for layer in checkpoint.layers {
            let (found, expected) = (try checkpoint.weights(layer), try #require(made.weights[layer.name]))
            #expect(checkpoint.rank(of: layer) == (rank == 0 ? nil : rank))
            for part in [\Int4Weights.codes, \.scales, \.smooth, \.down, \.up, \.bias] {
                #expect(found[keyPath: part].shape == expected[keyPath: part].shape)
                #expect(Array(found[keyPath: part].bytes) == Array(expected[keyPath: part].bytes), "\(layer.name)")
            }
            let packed = try checkpoint.packed(layer, on: pool)
            for part in [packed.codes, packed.scales] { #expect(part.storage.path == path) }
        }
        let file = try SafetensorsFile(path)
        for entry in file.entries where entry.shape.rank == 3 { #expect(entry.byteRange.lowerBound.isMultiple(of: 64)) }
        // Written again it is the same file.
        let again = folder.path + "/again.safetensors"
        try checkpoint.writeNibble(to: again, on: pool)
        let copy = try SafetensorsFile(again)
        #expect(copy.metadata == file.metadata && copy.tensorNames == file.tensorNames)
        for name in file.tensorNames { #expect(try Array(copy.tensor(name).bytes) == Array(file.tensor(name).bytes)) }
    }

    @Test func `inspection names it`() throws {
        try SmallT5File(rank: 0).write(to: path)
        let component = try #require(try Inspection(path).components.first)
        #expect(component.kind == .nibbleT5(rank: nil))
        #expect("\(component.kind)" == "nibble, T5 encoder, INT4, no low-rank branch")
        // As many parameters as its configuration's T5 has: embedding, blocks' matrices and gains, biases of distances.
        #expect(component.parameterCount == 40 * 64 + 2 * (4 * 64 * 64 + 3 * 96 * 64 + 2 * 64) + 8 * 2 + 64)
        let groups = try Checkpoint.openInt4(path).layerGroups
        #expect(groups.map(\.count) == [2, 2, 2])
        #expect(groups[0].description == "W4A8 192 × 64, groups of 64, no low-rank branch")
    }

    @Test(arguments: [0, 16])
    func `dequantized it has transformers' names and the weights that it stands for`(_ rank: Int) throws {
        let made = try SmallT5File(rank: rank)
        try made.write(to: path)
        let plain = DequantizedFluxCheckpoint(
            try Checkpoint.openInt4(path), dtype: .float32, on: ThreadPool(threadCount: 1))
        let block = "encoder.block.1.layer."
        #expect(plain.tensorNames.isSuperset(of: ["shared.weight", "\(block)1.DenseReluDense.wo.weight"]))
        #expect(plain.tensorNames.allSatisfy { $0.hasSuffix(".weight") } && plain.tensorNames.count == 3 + 2 * 9)
        for (layer, parts) in [
            ("\(block)0.SelfAttention.qkv", ["q", "k", "v"]), ("\(block)0.SelfAttention.o", ["o"]),
            ("\(block)1.DenseReluDense.wi", ["wi_0", "wi_1"]),
        ] {
            let weights = try #require(made.weights[layer])
            let (codes, scales) = (weights.codes, weights.scales.floats())
            let (smooth, down, up) = (weights.smooth.floats(), weights.down.floats(), weights.up.floats())
            let stem = layer[...(try #require(layer.lastIndex(of: ".")))]
            let found = try parts.flatMap { try plain.tensor("\(stem)\($0).weight").floats() }
            let bytes = codes.address.assumingMemoryBound(to: Int8.self)
            for index in found.indices {
                let (row, column) = (index / 64, index % 64)
                var expected = Double(bytes[index]) * Double(scales[row]) / Double(smooth[column])
                for r in 0..<rank { expected += Double(up[row * rank + r]) * Double(down[r * 64 + column]) }
                // f32 against f64: up to 16 terms below 1.
                #expect(abs(Double(found[index]) - expected) <= 1e-6)
            }
        }
    }

    @Test func `forms of transformers are refused, and an ordinary folder is not`() throws {
        try SmallT5File(rank: 16).write(to: path)
        let (checkpoint, pool) = (try Checkpoint.openInt4(path), ThreadPool(threadCount: 1))
        let target = folder.path + "/out"
        for write in [checkpoint.writeNunchaku, checkpoint.writeLite] {
            #expect {
                try write(target, pool) { _, _ in }
            } throws: { error in
                "\(error)".contains("this is a T5 encoder in 4 bits") && "\(error)".contains("--to dequantized")
            }
        }
        #expect(!FileManager.default.fileExists(atPath: target))
        try DequantizedFluxCheckpoint(checkpoint, on: pool).write(to: target)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: target).sorted() == [
                "config.json", "model.safetensors",
            ])
        #expect(try Inspection(target).components.first?.kind == .t5Encoder(layers: 2))
    }

    // MARK: What is wrong

    private func error(
        rank: Int = 0, metadata: [String: String]? = nil, _ edit: (inout [String: Tensor]) -> Void = { _ in }
    ) throws -> CheckpointError? {
        var made = try SmallT5File(rank: rank)
        edit(&made.tensors)
        try made.write(to: path, metadata: metadata)
        do throws(CheckpointError) {
            try Checkpoint.openInt4(path).verifyLayers(on: ThreadPool(threadCount: 1))
            return nil
        } catch {
            return error
        }
    }

    private static let qkv = "encoder.block.0.layer.0.SelfAttention.qkv"

    @Test func `tensors that are missing, left over or of wrong shapes are named`() throws {
        #expect(try error { $0["\(Self.qkv).codes"] = nil } == .missingTensor(path: path, name: "\(Self.qkv).codes"))
        #expect(try error { $0["shared.weight"] = nil } == .missingTensor(path: path, name: "shared.weight"))
        #expect(
            try error { $0["\(Self.qkv).bias"] = Tensor(zeros: [192], .bfloat16) }
                == .unexpectedTensors(path: path, names: ["\(Self.qkv).bias"]))
        #expect(
            try error { $0["\(Self.qkv).codes"] = Tensor(zeros: [12, 16, 64], .uint8) }
                == .wrongShape(path: path, name: "\(Self.qkv).codes", found: [12, 16, 64], expected: [12, 8, 64]))
        #expect(
            try error(rank: 16) { $0["\(Self.qkv).up"] = nil }
                == .missingTensor(path: path, name: "\(Self.qkv).up"))
        #expect(
            try error(rank: 16) { $0["\(Self.qkv).down"] = nil }
                == .missingTensor(path: path, name: "\(Self.qkv).down"))
        let wrongRank = try error(rank: 16) { tensors in
            tensors["\(Self.qkv).down"] = Tensor(zeros: [32, 20, 2], .bfloat16)
        }
        #expect("\(try #require(wrongRank))".contains("a rank of 20; expected a multiple of 16"))
    }

    @Test func `numbers that nothing can be computed with are found by looking`() throws {
        let notANumber = Tensor(zeros: [12, 1, 16], .bfloat16)
        notANumber.mutableAddress.assumingMemoryBound(to: UInt16.self)[5] = 0x7fc0
        let scale = try error { $0["\(Self.qkv).scales"] = notANumber }
        #expect("\(try #require(scale))".contains("\(Self.qkv).scales"))
        let smooth = try error { $0["\(Self.qkv).smooth"] = Tensor(zeros: [64], .bfloat16) }
        #expect("\(try #require(smooth))".contains("input 0 would be divided by 0.0"))
    }

    @Test func `metadata that say something else are refused by key`() throws {
        let good = [
            "format": "nibble", "format_version": "1", "component": "text_encoder_2",
            "config": SmallT5File.configuration,
        ]
        #expect(try error(metadata: good) == nil)
        for (key, value, words) in [
            ("component", "vae", "'__metadata__.component' is 'vae'"), ("format_version", "2", "format_version"),
            ("config", "{", "not valid JSON"), ("config", #"{"d_model": -64}"#, "d_model"),
            ("config", #"{"num_layers": 1000000000000}"#, "num_layers"),
            ("config", #"{"d_model": 72}"#, "a multiple of 64"),
            // A transformer's file has none, and a configuration of its own.
            ("component", nil, "quantization_config"), ("config", nil, "__metadata__.config"),
        ] as [(String, String?, String)] {
            var metadata = good
            metadata[key] = value
            let found = try #require(try error(metadata: metadata), "\(key) \(value ?? "")")
            #expect("\(found)".contains(words), "\(found)")
        }
    }
}
