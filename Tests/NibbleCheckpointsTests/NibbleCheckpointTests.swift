import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Files in the order of the CPU's kernels: where every number lies, and that nothing is lost on the way there and back.
@Suite(.enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"))
struct NibbleCheckpointTests {
    private let folder: TemporaryFolder
    private let pool = ThreadPool(threadCount: 2)

    init() throws { folder = try TemporaryFolder() }

    private func converted(_ path: String, as name: String = "model.safetensors") throws -> NibbleCheckpoint {
        let target = "\(folder.path)/\(name)"
        try Checkpoint.openInt4(path).writeNibble(to: target, on: pool)
        return try NibbleCheckpoint(target)
    }

    /// The formulas of `nibble_quantized.h`, with the numbers that went into the packer.
    @Test(arguments: GoldenInt4Model.all) func everyNumberLiesWhereTheKernelsReadIt(_ model: GoldenInt4Model) throws {
        let golden = try model.logical()
        let file = try converted(model.file)
        #expect(file.isMapped && file.structure == .nunchaku)
        for layer in file.layers {
            func values(_ key: String) throws -> [Float] { try file.tensor("\(layer.name).\(key)").floats() }
            func logical(_ key: String) throws -> [Float] { try golden.floats("\(layer.name).\(key)") }
            let (outputs, inputs) = (layer.outputs, layer.inputs)
            let codes = try file.tensor("\(layer.name).codes").elements(UInt8.self)
            let (q, isSigned) = (try logical("q"), file.rank(of: layer) != nil)
            var wrong = 0
            for n in 0..<outputs {
                for k in 0..<inputs {
                    let byte = codes[(n / 16 * (inputs / 8) + k / 8) * 64 + 4 * (n % 16) + k % 4]
                    let code = Int(k % 8 < 4 ? byte & 15 : byte >> 4) - (isSigned ? 8 : 0)
                    if Float(code) != q[n * inputs + k] { wrong += 1 }
                }
            }
            #expect(wrong == 0, "\(layer.name)")
            let groups = inputs / 64
            for (key, name) in [("scales", "wscales")] + (isSigned ? [] : [("zeros", "wzeros")]) {
                let (found, expected) = (try values(key), try logical(name))
                #expect(
                    (0..<outputs * groups).allSatisfy { index in
                        let (n, g) = (index / groups, index % groups)
                        return found[(n / 16 * groups + g) * 16 + n % 16] == expected[index]
                    }, "\(layer.name).\(key)")
            }
            #expect(try values("bias") == logical("bias"))
            guard let rank = file.rank(of: layer) else { continue }
            let (up, down) = (try values("up"), try values("down"))
            let (loraUp, loraDown) = (try logical("lora_up"), try logical("lora_down"))
            #expect(
                (0..<outputs * rank).allSatisfy {
                    let (n, r) = ($0 / rank, $0 % rank)
                    return up[(n / 16 * rank + r) * 16 + n % 16] == loraUp[$0]
                })
            #expect(
                (0..<rank * inputs).allSatisfy {
                    let (r, k) = ($0 / inputs, $0 % inputs)
                    return down[(k / 2 * rank + r) * 2 + k % 2] == loraDown[$0]
                })
            #expect(try values("smooth") == logical("smooth") && values("smooth_orig") == logical("smooth_orig"))
        }
        let entries = try SafetensorsFile(file.location).entries
        for entry in entries where file.layers.contains(where: { entry.name.hasPrefix($0.name + ".") }) {
            #expect(entry.byteRange.lowerBound.isMultiple(of: 64), "\(entry.name)")
        }
    }

    /// There and back: the same data in the same order, and the same metadata, from the file and from the legacy folder.
    @Test(arguments: GoldenInt4Model.all) func backToNunchaku(_ model: GoldenInt4Model) throws {
        let original = try SafetensorsFile(model.file)
        for path in [model.file, model.legacy] {
            let target = folder.path + "/back.safetensors"
            try converted(path).writeNunchaku(to: target, on: pool)
            let back = try SafetensorsFile(target)
            #expect(back.metadata == original.metadata && back.entries.map(\.name) == original.entries.map(\.name))
            for entry in original.entries {
                #expect(try back.tensor(entry.name).copiedBytes == original.tensor(entry.name).copiedBytes)
            }
        }
    }

    /// Whatever is made of the file is what is made of the original, and of another nibble file.
    @Test(arguments: GoldenInt4Model.all) func otherFormsAreThoseOfTheOriginal(_ model: GoldenInt4Model) throws {
        let nibble = try converted(model.file)
        let sources: [any Int4Checkpoint] = [try NunchakuCheckpoint(model.file), nibble]
        let files = try sources.enumerated().map { index, source in
            let (lite, plain) = ("\(folder.path)/lite\(index)", "\(folder.path)/plain\(index)")
            let copy = "\(folder.path)/copy\(index).safetensors"
            try source.writeLite(to: lite, on: pool)
            try DequantizedFluxCheckpoint(source, on: pool).write(to: plain)
            try source.writeNibble(to: copy, on: ThreadPool(threadCount: index + 1))
            return try [lite, plain].flatMap { folder in
                try ["config.json", "diffusion_pytorch_model.safetensors"].map {
                    try Data(contentsOf: URL(filePath: "\(folder)/\($0)"))
                }
            } + [try Data(contentsOf: URL(filePath: copy))]
        }
        #expect(files[0] == files[1])
        #expect(files[0].last == (try Data(contentsOf: URL(filePath: nibble.location))))
    }

    /// Nunchaku Lite becomes a nibble file of diffusers' structure and comes back; it cannot become Nunchaku's.
    @Test(arguments: GoldenInt4Model.all) func nunchakuLite(_ model: GoldenInt4Model) throws {
        let lite = folder.path + "/lite"
        let original = try NunchakuCheckpoint(model.file)
        try original.writeLite(to: lite, on: pool)
        #expect(Checkpoint.int4Form(of: lite) == .nunchakuLite)
        let source = try Checkpoint.openInt4(lite)
        let nibble = try converted(lite)
        #expect(Checkpoint.int4Form(of: nibble.location) == .nibble && nibble.structure == .diffusers)
        #expect(nibble.layers == source.layers && nibble.plainTensors == source.plainTensors)
        let again = folder.path + "/again"
        try nibble.writeLite(to: again, on: pool)
        for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
            let files = try [lite, again].map { try Data(contentsOf: URL(filePath: "\($0)/\(name)")) }
            #expect(files[0] == files[1], "\(name)")
        }
        // Its layers mean what the original's do; only the bias of what was shifted is rounded once more.
        let (expected, found) = (
            DequantizedFluxCheckpoint(original, dtype: .float32, on: pool),
            DequantizedFluxCheckpoint(nibble, dtype: .float32, on: pool)
        )
        #expect(found.tensorNames == expected.tensorNames)
        #expect(found.configuration.contains("quantization_config") == false)
        for name in expected.tensorNames {
            let values = try expected.tensor(name).floats()
            let isBias = name.hasSuffix(".bias")
            #expect(try found.tensor(name).floats() == (isBias ? values.map(\.roundedToBFloat16) : values), "\(name)")
        }
        for source in [source, nibble] {
            let target = folder.path + "/x.safetensors"
            guard
                case .notConvertible(_, "nunchaku", _)? = #expect(
                    throws: CheckpointError.self, performing: { try source.writeNunchaku(to: target, on: pool) })
            else {
                Issue.record("no error of what cannot be converted")
                return
            }
            #expect(!folder.names.contains("x.safetensors"))
        }
    }

    @Test(arguments: GoldenInt4Model.all) func stoppedInTheMiddle(_ model: GoldenInt4Model) throws {
        let checkpoint = try NunchakuCheckpoint(model.file)
        func stop(_ done: Int, _: Int) throws { if done > 0 { throw CancellationError() } }
        #expect(throws: CancellationError.self) {
            try checkpoint.writeNibble(to: folder.path + "/a.safetensors", on: pool, progress: stop)
        }
        #expect(folder.names.isEmpty)
    }

    /// What a quantizer gives is written in every form, and read again as what it was.
    @Test(arguments: GoldenInt4Model.all) func aCheckpointThatIsMade(_ model: GoldenInt4Model) throws {
        let original = try NunchakuCheckpoint(model.file)
        var shapes: [String: Shape] = [:]
        for name in original.plainTensors { shapes[name] = try original.tensor(name).shape }
        let config = try #require(original.metadata["config"])
        let made = try RandomInt4Checkpoint(config: config, plainShapes: shapes)
        let (nunchaku, lite) = (folder.path + "/nunchaku.safetensors", folder.path + "/lite")
        try made.writeNunchaku(to: nunchaku, on: pool)
        try made.writeLite(to: lite, on: pool)
        try made.writeNibble(to: folder.path + "/nibble.safetensors", on: pool)
        let nibble = try NibbleCheckpoint(folder.path + "/nibble.safetensors")
        let read: [any Int4Checkpoint] = [try Checkpoint.openInt4(nunchaku), nibble]
        for layer in made.layers {
            for checkpoint in read {
                switch layer.kind {
                case .w4a4, .w4a8:
                    // In one piece, whose rows follow from the first.
                    let (found, expected) = (try checkpoint.weights(layer), try made.weights(layer))
                    #expect(found.codes.copiedBytes == expected.codes.copiedBytes, "\(layer.name)")
                    #expect(found.up.copiedBytes == expected.up.copiedBytes)
                    #expect(found.down.copiedBytes == expected.down.copiedBytes)
                case .w4a16:
                    let (found, expected) = (try checkpoint.modulation(layer), try made.modulation(layer))
                    #expect(found.codes.copiedBytes == expected.codes.copiedBytes, "\(layer.name)")
                    #expect(found.zeros.copiedBytes == expected.zeros.copiedBytes)
                }
            }
        }
        let bytes = try SafetensorsFile(nibble.location).entries.reduce(0) { $0 + $1.byteRange.count }
        let plain = try made.plainTensors.reduce(0) { $0 + (try made.tensor($1)).bytes.count }
        #expect(made.packedByteCount == bytes - plain)
        #expect(try Checkpoint.openInt4(lite).layers.count > made.layers.count)
    }
}
