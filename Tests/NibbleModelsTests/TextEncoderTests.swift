import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// The two text encoders of a model folder behind one face: what holds for both is tested once.
enum TextEncoder: String, CaseIterable {
    case clip, t5

    /// An encoder that was opened: from tokens to the states after the last norm and, of CLIP, the pooled state.
    struct Opened {
        let blockCount: Int
        let encode: (_ ids: [Int32], Residency, Compute, _ beforeBlock: (Int) throws -> Void) throws -> [Tensor]
    }

    /// Opens the encoder in a folder with `config.json` and weights.
    func open(_ folder: URL) throws -> Opened {
        let config = try Data(contentsOf: folder.appending(path: "config.json"))
        let weights = WeightReader(try Checkpoint.open(folder.path))
        switch self {
        case .clip:
            let model = try CLIPTextModel(JSONDecoder().decode(CLIPTextConfig.self, from: config), weights: weights)
            return Opened(blockCount: model.blockCount) { ids, residency, compute, beforeBlock in
                let states = try model(ids, residency: residency, on: compute, beforeBlock: beforeBlock)
                return [states.last, states.pooled]
            }
        case .t5:
            let model = try T5Encoder(JSONDecoder().decode(T5Config.self, from: config), weights: weights)
            return Opened(blockCount: model.blockCount) { ids, residency, compute, beforeBlock in
                [try model(ids, residency: residency, on: compute, beforeBlock: beforeBlock)]
            }
        }
    }

    /// Its folder in a model folder.
    func folder(in model: URL) -> URL {
        model.appending(path: self == .clip ? "model/text_encoder" : "model/text_encoder_2")
    }

    /// The states that `encode` returns, under the names of the golden files.
    var resultNames: [String] { self == .clip ? ["clip_last_hidden", "clip_pooled"] : ["t5_hidden"] }

    /// The tokens of a golden case.
    func ids(_ golden: GoldenTensors) throws -> [Int32] {
        try golden.integers("\(rawValue)_input_ids").map { Int32($0) }
    }
}

/// Both text encoders against transformers' (golden data, f32 arithmetic on bf16 weights).
@Suite struct TextEncoderTests {
    /// The goldens' README suggests it: both engines sum in f32, in another order. The largest states are some hundreds,
    /// where one rounding is 1.5e-5, those that the pipeline uses below 10.
    static let tolerance: Float = 2e-4

    struct Case: Sendable, CustomTestStringConvertible {
        let encoder: TextEncoder
        let model: URL
        let file: String
        var testDescription: String { "\(encoder) of \(model.lastPathComponent), \(file)" }

        func open() throws -> (TextEncoder.Opened, GoldenTensors, [Int32]) {
            let golden = try GoldenTensors(model.appending(path: "golden/\(file)"))
            return (try encoder.open(encoder.folder(in: model)), golden, try encoder.ids(golden))
        }
    }

    static let cases: [Case] = TextEncoder.allCases.flatMap { encoder in
        Goldens.fluxModels.flatMap { model in
            GoldenCase.all(of: model).map { Case(encoder: encoder, model: model, file: $0.file) }
        }
    }

    /// One case of each encoder of each model.
    static let firstCases: [Case] = cases.filter { one in GoldenCase.all(of: one.model).first?.file == one.file }

    @Test(arguments: cases)
    func `states are transformers'`(_ one: Case) throws {
        let (encoder, golden, ids) = try one.open()
        let compute = Compute(precision: .f32)
        var compared: Set<String> = []
        var worst: (name: String, difference: Float) = ("", 0)
        func compare(_ name: String, _ states: Tensor) {
            guard golden.names.contains(name), let expected = try? golden.floats(name) else { return }
            compared.insert(name)
            let difference = maximumDifference(states, expected)
            if difference >= worst.difference { worst = (name, difference) }
            #expect(difference <= Self.tolerance, "\(name) differs by \(difference)")
        }
        compute.observer = compare
        let results = try encoder.encode(ids, .keep, compute) { _ in }
        for (name, states) in zip(one.encoder.resultNames, results) { compare(name, states) }
        // All that the file holds of this encoder, so that a renamed observation cannot hide a difference.
        let stored = golden.names.filter { $0.hasPrefix("\(one.encoder)_") && !$0.hasSuffix("_input_ids") }
        #expect(stored == compared && compared.isSuperset(of: one.encoder.resultNames))
        print("\(one.testDescription): worst of \(compared.count) is \(worst.name), \(worst.difference)")
    }

    @Test(arguments: firstCases, [Precision.f32, .bf16])
    func `one thread and more give the same bytes`(_ one: Case, _ precision: Precision) throws {
        let (encoder, _, ids) = try one.open()
        let runs = try [1, 2, 3].map { threads in
            let compute = Compute(precision: precision, pool: ThreadPool(threadCount: threads))
            return try encoder.encode(ids, .keep, compute) { _ in }.map { $0.floats() }
        }
        #expect(runs[0] == runs[1] && runs[0] == runs[2])
    }

    @Test(arguments: cases)
    func `bf16 stays near f32`(_ one: Case) throws {
        let (encoder, golden, ids) = try one.open()
        let results = try encoder.encode(ids, .keep, Compute(precision: .bf16)) { _ in }
        for (name, states) in zip(one.encoder.resultNames, results) {
            let error = relativeError(states.floats(), try golden.floats(name))
            // bf16 rounds an operand by up to 2^-9 of itself. A block has some 10 of them in a row: norm, q, k, v, weights
            // and result of attention, norm, the two halves of the feed-forward layer and their product. Unrelated to one
            // another, they add up like their squares.
            let bound = (10 * Double(encoder.blockCount)).squareRoot() / 512
            #expect(error <= bound, "\(name): relative error \(error)")
            print("\(one.testDescription), bf16: \(name) has relative error \(error), at most \(bound)")
        }
    }

    @Test(arguments: firstCases)
    func `weights that are let go come back unchanged, and a second run takes no new memory`(_ one: Case) throws {
        let (encoder, _, ids) = try one.open()
        let compute = Compute(precision: .bf16)
        let kept = try encoder.encode(ids, .keep, compute) { _ in }.map { $0.floats() }
        let reserved = compute.workspace.reservedBytes
        for _ in 0..<2 {
            let streamed = try encoder.encode(ids, .stream, compute) { _ in }.map { $0.floats() }
            #expect(streamed == kept)
        }
        #expect(compute.workspace.reservedBytes == reserved)
    }

    @Test(arguments: firstCases)
    func `it can be stopped before every block and goes on working`(_ one: Case) throws {
        struct Stop: Error, Equatable { let block: Int }
        let (encoder, _, ids) = try one.open()
        let compute = Compute(precision: .f32)
        let whole = try encoder.encode(ids, .keep, compute) { _ in }.map { $0.floats() }
        for last in 0..<encoder.blockCount {
            var seen: [Int] = []
            #expect(throws: Stop(block: last)) {
                try encoder.encode(ids, .stream, compute) { block in
                    seen.append(block)
                    if block == last { throw Stop(block: block) }
                }
            }
            #expect(seen == Array(0...last))
        }
        #expect(try encoder.encode(ids, .keep, compute) { _ in }.map { $0.floats() } == whole)
    }

    @Test(arguments: firstCases)
    func `tokens of another model are refused`(_ one: Case) throws {
        struct Vocabulary: Decodable { let vocab_size: Int }
        let (encoder, _, ids) = try one.open()
        let config = one.encoder.folder(in: one.model).appending(path: "config.json")
        let size = try JSONDecoder().decode(Vocabulary.self, from: Data(contentsOf: config)).vocab_size
        let compute = Compute(precision: .f32)
        for wrong in [Int32(size), -1, .min, .max] {
            #expect(throws: ModelError.unknownToken(id: wrong, vocabularySize: size)) {
                try encoder.encode(Array(ids.dropLast()) + [wrong], .keep, compute) { _ in }
            }
        }
        #expect(throws: ModelError.noTokens) { try encoder.encode([], .keep, compute) { _ in } }
        // The last of the vocabulary, and one token alone, are both allowed.
        let states = try encoder.encode([Int32(size - 1)], .keep, compute) { _ in }
        #expect(states[0].rows == 1 && compute.isFinite(states[0]))
    }
}
