import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Nunchaku's files as a whole.
@Suite(.enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"))
struct Int4CheckpointTests {
    @Test(arguments: GoldenInt4Model.all) func layersAreListed(_ model: GoldenInt4Model) throws {
        let expected = try model.layers()
        for path in [model.file, model.legacy] {
            let checkpoint = try NunchakuCheckpoint(path)
            #expect(Set(checkpoint.layers.map(\.name)) == Set(expected.keys))
            for layer in checkpoint.layers {
                let golden = try #require(expected[layer.name])
                #expect(layer.outputs == golden.n && layer.inputs == golden.k && layer.shift == golden.shift ?? 0)
                #expect(checkpoint.rank(of: layer) == golden.rank)
                switch layer.kind {
                case .w4a4(let isUnsigned): #expect(golden.kind == "w4a4" && golden.unsigned == isUnsigned)
                case .w4a16(let splits): #expect(golden.kind == "w4a16" && golden.splits == splits)
                case .w4a8: Issue.record("\(layer.name) is no layer of a transformer")
                }
            }
            #expect(checkpoint.metadata == (try SafetensorsFile(model.file).metadata))
        }
    }

    @Test(arguments: GoldenInt4Model.all) func everyLogicalTensorIsEqual(_ model: GoldenInt4Model) throws {
        let golden = try model.logical()
        var compared: Set<String> = []
        for path in [model.file, model.legacy] {
            let checkpoint = try NunchakuCheckpoint(path)
            for layer in checkpoint.layers {
                for (name, part) in try Self.parts(layer, checkpoint) {
                    let full = "\(layer.name).\(name)"
                    compared.insert(full)
                    #expect(part.shape.dimensions == (try golden.shape(full)), "\(full)")
                    #expect(part.floats() == (try golden.floats(full)), "\(full)")
                }
                if case .w4a16 = layer.kind {
                    Int4WeightsTests.compareBias(
                        try checkpoint.modulation(layer), try golden.floats("\(layer.name).bias_orig"))
                }
            }
        }
        let derived = ["bias_orig", "effective_probe", "weight_effective"]
        let all = golden.names.filter { name in !derived.contains { name.hasSuffix(".\($0)") } }
        #expect(compared == all && !all.isEmpty)
    }

    private static func parts(_ layer: Int4Layer, _ checkpoint: NunchakuCheckpoint) throws -> [(String, Tensor)] {
        switch layer.kind {
        case .w4a4, .w4a8:
            let weights = try checkpoint.weights(layer)
            return [
                ("q", weights.codes), ("wscales", weights.scales), ("smooth", weights.smooth),
                ("smooth_orig", weights.originalSmooth), ("lora_down", weights.down), ("lora_up", weights.up),
                ("bias", weights.bias),
            ]
        case .w4a16:
            let weights = try checkpoint.modulation(layer)
            return [
                ("q", weights.codes), ("wscales", weights.scales), ("wzeros", weights.zeros), ("bias", weights.bias),
            ]
        }
    }

    @Test(arguments: GoldenInt4Model.all) func groupsOfLayers(_ model: GoldenInt4Model) throws {
        let checkpoint = try NunchakuCheckpoint(model.file)
        let groups = checkpoint.layerGroups
        #expect(groups.reduce(0) { $0 + $1.count } == checkpoint.layers.count)
        for fc2 in groups where fc2.name.hasSuffix("transformer_blocks.*.mlp_fc2") {
            let isSingle = fc2.name.hasPrefix("single_")
            #expect(fc2.count == (isSingle ? checkpoint.sizes.singleBlocks : checkpoint.sizes.doubleBlocks))
            #expect(fc2.description.contains("shifted by 0.171875"))
        }
        let norm = try #require(groups.first { $0.name == "single_transformer_blocks.*.norm.linear" })
        #expect(norm.count == checkpoint.sizes.singleBlocks && norm.rank == nil)
        #expect(norm.description.contains("W4A16") && norm.description.contains("3 interleaved vectors"))
        var steps = 0
        try checkpoint.verifyLayers(on: ThreadPool(threadCount: 2)) { _, _ in steps += 1 }
        #expect(steps == checkpoint.layers.count)
    }

    /// A third of a fused q, k, v is read alone.
    @Test(arguments: GoldenInt4Model.all) func rowsOfALayer(_ model: GoldenInt4Model) throws {
        let checkpoint = try NunchakuCheckpoint(model.file)
        let layer = try #require(checkpoint.layers.first { $0.name.hasSuffix(".qkv_proj") })
        let whole = try checkpoint.weights(layer)
        let third = layer.outputs / 3
        for start in stride(from: 0, to: layer.outputs, by: third) {
            let rows = start..<start + third
            let part = try checkpoint.weights(layer, rows: rows)
            for (found, all) in [
                (part.codes, whole.codes), (part.scales, whole.scales), (part.up, whole.up), (part.bias, whole.bias),
            ] { #expect(found.copiedBytes == all.rows(rows).copiedBytes) }
            #expect(part.smooth.copiedBytes == whole.smooth.copiedBytes)
            #expect(part.down.copiedBytes == whole.down.copiedBytes)
        }
    }

    /// The same file under the names of Nunchaku's Python models.
    @Test(arguments: GoldenInt4Model.all) func pythonNames(_ model: GoldenInt4Model) throws {
        // Spec, "Full FLUX key list", last paragraph; longest names first.
        let both = [
            "norm_added_q": "attn.norm_added_q", "norm_added_k": "attn.norm_added_k", "norm_q": "attn.norm_q",
            "norm_k": "attn.norm_k", "qkv_proj": "attn.to_qkv",
        ]
        let double = both.merging([
            "qkv_proj_context": "attn.add_qkv_proj", "out_proj": "attn.to_out.0", "out_proj_context": "attn.to_add_out",
            "mlp_fc1": "ff.net.0.proj", "mlp_fc2": "ff.net.2", "mlp_context_fc1": "ff_context.net.0.proj",
            "mlp_context_fc2": "ff_context.net.2",
        ]) { $1 }
        let single = both.merging(["out_proj": "attn.to_out"]) { $1 }
        let keys = [
            "lora_down": "proj_down", "lora_up": "proj_up", "smooth": "smooth_factor",
            "smooth_orig": "smooth_factor_orig",
        ]
        let folder = try TemporaryFolder()
        let edited = try EditedCheckpoint(model.file)
        for (name, tensor) in edited.tensors {
            let parts = name.split(separator: ".").map(String.init)
            guard parts[0].hasSuffix("transformer_blocks"), parts.count == 4 else { continue }
            let layers = parts[0].hasPrefix("single") ? single : double
            edited.tensors[name] = nil
            edited.tensors["\(parts[0]).\(parts[1]).\(layers[parts[2]] ?? parts[2]).\(keys[parts[3]] ?? parts[3])"] =
                tensor
        }
        let renamed = try NunchakuCheckpoint(edited.write(to: folder))
        let original = try NunchakuCheckpoint(model.file)
        #expect(renamed.tensorNames == original.tensorNames)
        for name in original.tensorNames {
            #expect(try renamed.tensor(name).copiedBytes == original.tensor(name).copiedBytes, "\(name)")
        }
    }

    @Test func sizeOfFluxDev() {
        // FLUX.1-dev's configuration is the default; the sum is the model card's 6.64 GB (spec, section 2.7).
        let schema = Int4FluxSchema(Int4FluxSizes())
        let quantized = schema.layers.flatMap { layer in layer.tensors(rank: 32).values }
        let norms = schema.plain.filter { $0.name.contains("transformer_blocks.") }
        let bytes =
            quantized.reduce(0) { $0 + $1.shape.elementCount * $1.dtype.byteSize }
            + norms.reduce(0) { $0 + $1.shape.elementCount * 2 }
        #expect(bytes == 6_639_749_120)
    }
}

/// The tensors and metadata of a file, to be changed and written.
final class EditedCheckpoint {
    var tensors: [String: Tensor] = [:]
    var metadata: [String: String]

    init(_ path: String) throws {
        let file = try SafetensorsFile(path)
        metadata = file.metadata
        for name in file.tensorNames { tensors[name] = try file.tensor(name) }
    }

    func write(to folder: TemporaryFolder, as name: String = "edited.safetensors") throws -> String {
        let path = "\(folder.path)/\(name)"
        try SafetensorsWriter.write(tensors, to: path, metadata: metadata)
        return path
    }
}
