import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibblePipelines

/// torch's own numbers, of every golden root: bits are compared, so that 0 and -0 differ.
@Suite struct NoiseTests {
    struct Index: Decodable {
        struct Entry: Decodable {
            let seed: String
            let file: String
            let tensors: [String]
        }
        let seeds: [Entry]
    }

    /// One file of torch's numbers.
    struct Golden: Sendable, CustomTestStringConvertible {
        let seed: UInt64
        let file: URL
        let names: [String]
        var testDescription: String { "seed \(seed)" }
    }

    static let goldens: [Golden] = Goldens.all("rng/index.json").flatMap { index in
        guard let data = try? Data(contentsOf: index), let decoded = try? JSONDecoder().decode(Index.self, from: data)
        else { return [Golden(seed: 0, file: index, names: [])] }
        return decoded.seeds.compactMap { entry in
            UInt64(entry.seed).map {
                Golden(
                    seed: $0, file: index.deletingLastPathComponent().appending(path: entry.file),
                    names: entry.tensors)
            }
        }
    }

    @Test(.enabled(if: !goldens.isEmpty, "no golden root holds rng/"), arguments: goldens)
    func everyValueIsTorchs(_ golden: Golden) throws {
        let tensors = try GoldenTensors(golden.file)
        #expect(tensors.names == Set(golden.names))
        // The draws seq_a, seq_b, … come from one generator, one after the other.
        var sequence = TorchGenerator(seed: golden.seed)
        for name in golden.names.sorted() {
            let expected = try tensors.tensor(name)
            let count = expected.elementCount
            var generator = TorchGenerator(seed: golden.seed)
            switch (name.prefix { $0 != "_" }, expected.dtype) {
            case ("mt19937", _):
                #expect(try tensors.integers(name) == generator.next(count).map(Int.init), "\(name)")
            case ("rand", .float32): expectSameBits(generator.uniform(count), expected, name)
            case ("randn", .float32): expectSameBits(generator.normal(count), expected, name)
            case ("randn", .bfloat16): expectSameBits(generator.normalBFloat16(count), expected, name)
            case ("seq", .float32): expectSameBits(sequence.normal(count), expected, name)
            default: Issue.record("what is \(name) of \(expected.dtype)?")
            }
        }
    }

    @Test func latentsOfEveryModelCase() throws {
        for model in Goldens.fluxModels {
            let folder = model.appending(path: "golden")
            struct Cases: Decodable {
                struct Case: Decodable {
                    let file: String
                    let seed: String
                }
                let cases: [Case]
            }
            let cases = try JSONDecoder().decode(
                Cases.self, from: Data(contentsOf: folder.appending(path: "cases.json")))
            for entry in cases.cases {
                let expected = try GoldenTensors(folder.appending(path: entry.file)).tensor("latents_init")
                var generator = TorchGenerator(seed: try #require(UInt64(entry.seed)))
                expectSameBits(generator.normal(expected.elementCount), expected, entry.file)
            }
        }
    }

    @Test func onlyTheLowerHalfOfTheSeedMatters() {
        var first = TorchGenerator(seed: 7)
        var second = TorchGenerator(seed: 0xdead_beef_0000_0007)
        #expect(first.normal(40) == second.normal(40))
    }

    @Test func nothingDrawnChangesNothing() {
        var first = TorchGenerator(seed: 3)
        var second = TorchGenerator(seed: 3)
        #expect(second.normal(0).isEmpty && second.uniform(0).isEmpty && second.normalBFloat16(0).isEmpty)
        #expect(first.normal(17) == second.normal(17))
    }
}
