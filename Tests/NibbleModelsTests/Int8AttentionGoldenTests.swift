import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

/// Attention in bytes on queries, keys and values of real models, against float64.
@Suite(.enabled(if: Compute.hasInt8Attention, "this instruction set has no attention in bytes"))
struct Int8AttentionGoldenTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let file: URL
        let block: String
        var testDescription: String {
            "\(file.deletingLastPathComponent().deletingLastPathComponent().lastPathComponent) \(block)"
        }
    }

    /// Every block whose q, k and v a golden file holds, `[1, tokens, heads, headDim]`.
    static let cases: [Case] = Goldens.fluxModels.flatMap { model in
        GoldenCase.all(of: model).flatMap { one -> [Case] in
            let file = model.appending(path: "golden/\(one.file)")
            guard let names = try? GoldenTensors(file).names else { return [] }
            return names.filter { $0.hasSuffix(".q") }.sorted().map { Case(file: file, block: String($0.dropLast(2))) }
        }
    }

    private struct Sizes {
        let tokens, heads, headDim: Int
        func index(_ token: Int, _ head: Int) -> Int { (token * heads + head) * headDim }
    }

    /// softmax(q kᵀ / √headDim) v of all heads.
    private static func attention(_ q: [Float], _ k: [Float], _ v: [Float], _ sizes: Sizes) -> [Float] {
        var output = [Float](repeating: 0, count: q.count)
        for head in 0..<sizes.heads {
            for query in 0..<sizes.tokens {
                let row = sizes.index(query, head)
                let scores = (0..<sizes.tokens).map { key in
                    let other = sizes.index(key, head)
                    return (0..<sizes.headDim).reduce(0) { $0 + Double(q[row + $1]) * Double(k[other + $1]) }
                        / Double(sizes.headDim).squareRoot()
                }
                let maximum = scores.max() ?? 0
                let weights = scores.map { exp($0 - maximum) }
                let sum = weights.reduce(0, +)
                for column in 0..<sizes.headDim {
                    let total = weights.enumerated().reduce(0) {
                        $0 + $1.element * Double(v[sizes.index($1.offset, head) + column])
                    }
                    output[row + column] = Float(total / sum)
                }
            }
        }
        return output
    }

    /// The bar: layers with 4-bit weights and 8-bit activations are off by 3.4 % at best (docs/quality.md), and attention
    /// should not be what is seen.
    @Test(.enabled(if: !cases.isEmpty, "no goldens with q, k and v"), arguments: cases)
    func `an error below that of the best 4-bit layers`(_ one: Case) throws {
        let golden = try GoldenTensors(one.file)
        let shape = try golden.shape("\(one.block).q")
        let sizes = Sizes(tokens: shape[1], heads: shape[2], headDim: shape[3])
        let compute = Compute(precision: .bf16)
        let inputs = try ["q", "k", "v"].map { name in
            let values = Tensor(
                try golden.floats("\(one.block).\(name)"), shape: [sizes.tokens, sizes.heads * sizes.headDim])
            let rounded = Tensor(zeros: values.shape, .bfloat16)
            compute.convert(values, into: rounded)
            return rounded
        }
        let floats = inputs.map { $0.floats() }
        let expected = Self.attention(floats[0], floats[1], floats[2], sizes)
        let (inBytes, in16Bits) = (Tensor(zeros: inputs[0].shape, .bfloat16), Tensor(zeros: inputs[0].shape, .bfloat16))
        compute.int8Attention(inputs[0], inputs[1], inputs[2], heads: sizes.heads, into: inBytes)
        compute.attention(inputs[0], inputs[1], inputs[2], heads: sizes.heads, into: in16Bits)
        let error = relativeError(inBytes.floats(), expected)
        #expect(error < 0.034)
        print("\(one): attention in bytes is off by \(error), in bf16 by \(relativeError(in16Bits.floats(), expected))")
    }
}
