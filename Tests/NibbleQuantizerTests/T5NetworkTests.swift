import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleQuantizer

/// The golden models' T5 in 4 bits.
@Suite struct T5NetworkTests {
    /// A folder that goes away with this object.
    private final class Scratch {
        let folder = FileManager.default.temporaryDirectory.appending(path: "t5-\(UUID().uuidString)")
        init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }
        deinit { try? FileManager.default.removeItem(at: folder) }
        func path(_ name: String) -> String { folder.appending(path: name).path }
    }

    private static func ids(_ model: URL, _ one: GoldenCase) throws -> [Int32] {
        try GoldenTensors(model.appending(path: "golden/\(one.file)")).integers("t5_input_ids").map { Int32($0) }
    }

    /// The default for this component.
    private static var recipe: QuantizationRecipe {
        QuantizationRecipe(.fast, for: .textEncoder2)
    }

    private static func network(_ model: URL, _ prompts: [[Int32]]) throws -> T5Network {
        let folder = try ModelFolder(model.appending(path: "model").path)
        return try T5Network(
            folder.weights(.textEncoder2), configuration: folder.configurationText(.textEncoder2), prompts: prompts)
    }

    /// What the command shows: prompts, here the first case's, and passages of the whole vocabulary.
    private static func passages(_ model: URL, _ recipe: QuantizationRecipe) throws -> [[Int32]] {
        guard recipe.isCalibrated else { return [] }
        let first = try ids(model, try #require(GoldenCase.all(of: model).first))
        let folder = try ModelFolder(model.appending(path: "model").path)
        let vocabulary = recipe.permutation(of: try folder.config(.textEncoder2, as: T5Config.self).vocabularySize)
        return [first]
            + (0..<32).map { passage in
                first.indices.map { Int32(vocabulary[(passage * first.count + $0) % vocabulary.count]) }
            }
    }

    /// Quantizes a model's T5, the blocks in some runs one after the other.
    private static func quantize(
        _ model: URL, to path: String, recipe: QuantizationRecipe = recipe, threads: Int = 2, runs: [[Int]]? = nil
    ) throws {
        let prompts = try passages(model, recipe)
        let all = try network(model, []).blockCount
        for blocks in runs ?? [Array(0..<all)] {
            let network = try network(model, prompts)
            let journal = try QuantizationJournal(path + ".journal", arguments: recipe.arguments)
            let quantize = BlockQuantizer(
                network, recipe: recipe, journal: journal, precision: .f32, pool: ThreadPool(threadCount: threads),
                memoryLimit: 1 << 30)
            try quantize(blocks) { _ in }
            if (0..<all).allSatisfy(journal.contains) { try network.write(to: path, journal) {} }
        }
    }

    @Test(arguments: Goldens.fluxModels)
    func `its states are near transformers', and as near as its weights allow`(_ model: URL) throws {
        let scratch = try Scratch()
        let path = scratch.path("t5.safetensors")
        try Self.quantize(model, to: path)
        let checkpoint = try Checkpoint.openInt4(path)
        try checkpoint.verifyLayers(on: ThreadPool(threadCount: 2))
        let quantized = try T5Encoder(quantized: checkpoint)
        let plain = try T5Encoder(
            quantized.config,
            weights: WeightReader(
                DequantizedFluxCheckpoint(checkpoint, dtype: .float32, on: ThreadPool(threadCount: 2))))
        let compute = Compute(precision: .f32)
        // A step of a scale is a seventh of a group's largest weight, of 64 that are spread like a bell some 2.4 times their
        // root of the mean square: rounding is off by 2.4 / (7 · √12) = 0.1 of it. Layers' errors are unrelated and add up
        // like their squares, beside a stream that also carries what no layer has touched. A fitted
        // layer is to be better than a rounded one: the golden models' are 4 to 20 times as good.
        let layers = Double(checkpoint.layers.count)
        let bound = 0.1 * layers.squareRoot()
        // 8 bits: `QuantizedT5Tests` derives it. Twice as much, since where a layer's terms cancel, its outputs are smaller
        // than their error's share says.
        let inputs = 2 * 8 / (254 * 3.0.squareRoot()) * layers.squareRoot()
        for one in GoldenCase.all(of: model) {
            let ids = try Self.ids(model, one)
            let found = try quantized(ids, on: compute).floats()
            let golden = try GoldenTensors(model.appending(path: "golden/\(one.file)")).floats("t5_hidden")
            let error = relativeError(found, golden)
            let ofInputs = relativeError(found, try plain(ids, on: compute).floats())
            #expect(error <= bound, "\(one.file): \(error)")
            #expect(ofInputs <= inputs, "\(one.file): \(ofInputs)")
            print(
                "\(model.lastPathComponent) \(one.file): \(error) of at most \(bound), by inputs \(ofInputs) of \(inputs)"
            )
        }
    }

    @Test(arguments: Goldens.fluxModels)
    func `threads, and runs that were broken off, change no byte`(_ model: URL) throws {
        let scratch = try Scratch()
        let blocks = Array(0..<(try Self.network(model, []).blockCount))
        try Self.quantize(model, to: scratch.path("one"), threads: 1)
        try Self.quantize(model, to: scratch.path("two"), threads: 2)
        try Self.quantize(model, to: scratch.path("parts"), runs: blocks.reversed().map { [$0] })
        let files = try ["one", "two", "parts"].map { try Data(contentsOf: URL(filePath: scratch.path($0))) }
        #expect(files[0] == files[1] && files[0] == files[2])
    }

    @Test(arguments: Goldens.fluxModels)
    func `every layer is made of its weights, and nothing is left over`(_ model: URL) throws {
        let network = try Self.network(model, [])
        let source = try ModelFolder(model.appending(path: "model").path).weights(.textEncoder2)
        var left = source.tensorNames.filter { $0.contains("Dense") || $0.contains("SelfAttention") }
        for block in 0..<network.blockCount {
            for layer in network.layers(of: block).groups.flatMap(\.layers) {
                let stem = layer.name[...(try #require(layer.name.lastIndex(of: ".")))]
                let parts = ["qkv": ["q", "k", "v"], "wi": ["wi_0", "wi_1"]]
                let last = String(layer.name.dropFirst(stem.count))
                let names = (parts[last] ?? [last]).map { "\(stem)\($0).weight" }
                let member = try network.member(layer)
                #expect(try member.weights.map { $0.floats() } == names.map { try source.tensor($0).floats() })
                left.subtract(names)
            }
        }
        // What is left has inputs that are no groups of 64, or outputs that are no two tiles of 16.
        for name in left where !name.contains("relative_attention_bias") {
            let weight = try source.tensor(name)
            #expect(weight.width % 64 != 0 || weight.rows % 32 != 0, "\(name)")
        }
    }

    @Test func `too many prompts for the memory are refused, and what would fit is said`() throws {
        let model = try #require(Goldens.fluxModels.first)
        let ids = try Self.ids(model, try #require(GoldenCase.all(of: model).first))
        let network = try Self.network(model, Array(repeating: ids, count: 8))
        #expect {
            try network.begin(on: Compute(precision: .f32), memoryLimit: 1 << 12)
        } throws: { error in
            guard case QuantizationError.tooLarge? = error as? QuantizationError else { return false }
            return "\(error)".contains("fewer --samples")
        }
    }

    @Test func `recipes that a text encoder cannot follow are refused by name`() {
        for (key, change) in [
            ("activations", { (recipe: inout QuantizationRecipe) in recipe.activations = .int4 }),
            ("steps", { $0.steps = 4 }), ("size", { $0.size = 64 }), ("grid", { $0.grid = 0 }),
        ] {
            var recipe = Self.recipe
            change(&recipe)
            #expect {
                try recipe.check(for: .textEncoder2)
            } throws: { error in
                guard case .invalidRecipe(let found, _, _)? = error as? QuantizationError else { return false }
                return found == key
            }
        }
        for preset in QuantizationRecipe.Preset.allCases {
            #expect(throws: Never.self) {
                try QuantizationRecipe(preset, for: .textEncoder2).check(for: .textEncoder2)
            }
        }
    }
}
