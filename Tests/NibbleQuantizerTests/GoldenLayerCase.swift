import Foundation
import NibbleCheckpoints
import NibbleQuantizer
import NibbleTensors
import NibbleTestSupport

/// A golden layer: what the quantizer is given, and what its result is measured with.
struct GoldenLayerCase {
    let name: String
    let layer: GoldenLayers.Layer
    let group: LayerGroup
    let statistics: InputStatistics
    /// `[tokens, in]` BF16.
    let testTokens: Tensor
    /// What the layer gives for them, computed in float64.
    let expected: [Double]

    init(_ set: GoldenLayers, _ name: String, _ layer: GoldenLayers.Layer) throws {
        self.name = name
        self.layer = layer
        let file = try set.weights(layer)
        let weight = try file.tensor("W")
        var first = 0
        let parts = layer.parts.map { rows in
            defer { first += rows }
            return weight.rows(first..<first + rows)
        }
        let bias = try file.floats("bias")
        group = LayerGroup(
            members: [.init(name: name, weights: parts, bias: Tensor(bias, shape: [bias.count]))],
            inputCodes: layer.isUnsigned ? .shifted : .signed)
        let inputs = try set.inputs(layer)
        statistics = Self.statistics(
            of: try inputs.tensor("X_calib"), shift: layer.isUnsigned ? Int4Layer.unsignedShift : 0)
        testTokens = try inputs.tensor("X_test")
        expected = Self.product(testTokens.floats(), weight.floats(), layer.k, bias: bias)
    }

    /// Of all tokens, in float64.
    static func statistics(of tokens: Tensor, shift: Float) -> InputStatistics {
        let count = tokens.width
        let shifted = tokens.floats().map { $0 + shift }
        var maxima = [Float](repeating: 0, count: count)
        for (index, value) in shifted.enumerated() { maxima[index % count] = max(maxima[index % count], abs(value)) }
        var columns = [Float](repeating: 0, count: shifted.count)
        for row in 0..<tokens.rows {
            for column in 0..<count { columns[column * tokens.rows + row] = shifted[row * count + column] }
        }
        let moment = product(columns, columns, tokens.rows).map { Float($0 / Double(tokens.rows)) }
        return InputStatistics(
            maxima: Tensor(maxima, shape: [count]), sample: tokens, secondMoment: Tensor(moment, shape: [count, count]))
    }

    /// x yᵀ + bias of rows of `width`, row-major, in float64.
    static func product(_ x: [Float], _ y: [Float], _ width: Int, bias: [Float]? = nil) -> [Double] {
        let left = x.map(Double.init)
        let right = y.map(Double.init)
        let (rows, outputs) = (x.count / width, y.count / width)
        var result: [Double] = []
        result.reserveCapacity(rows * outputs)
        left.withUnsafeBufferPointer { left in
            right.withUnsafeBufferPointer { right in
                for row in 0..<rows {
                    for output in 0..<outputs {
                        let sum = dot(
                            left[row * width..<(row + 1) * width], right[output * width..<(output + 1) * width])
                        result.append(sum + Double(bias?[output] ?? 0))
                    }
                }
            }
        }
        return result
    }

    /// Four sums, so that additions need not wait for each other.
    private static func dot(_ x: Slice<UnsafeBufferPointer<Double>>, _ y: Slice<UnsafeBufferPointer<Double>>) -> Double
    {
        let (x, y) = (UnsafeBufferPointer(rebasing: x), UnsafeBufferPointer(rebasing: y))
        var sums = SIMD4<Double>()
        for index in stride(from: 0, to: x.count, by: 4) {
            let left = SIMD4(x[index], x[index + 1], x[index + 2], x[index + 3])
            let right = SIMD4(y[index], y[index + 1], y[index + 2], y[index + 3])
            sums += left * right
        }
        return sums.sum()
    }

    /// ‖y_q − y‖ / ‖y‖ on the test tokens, y_q being the engine's with what a file stores.
    func error(of weights: Int4Weights, _ bits: ActivationBits, on compute: Compute) -> Double {
        let packed = QuantizedWeights(
            packing: weights.codes, scales: weights.scales, smooth: weights.smooth.widened, down: weights.down,
            up: weights.up, bias: weights.bias.widened, inputCodes: layer.isUnsigned ? .shifted : .signed)
        let outputs = Tensor(zeros: [testTokens.rows, layer.n], .float32)
        compute.quantizedProduct(testTokens, packed, into: outputs, bits: bits)
        var (difference, norm) = (0.0, 0.0)
        for (found, expected) in zip(outputs.floats(), expected) {
            difference += (Double(found) - expected) * (Double(found) - expected)
            norm += expected * expected
        }
        return (difference / norm).squareRoot()
    }
}

extension Tensor {
    /// A copy in 32-bit floats.
    var widened: Tensor { Tensor(floats(), shape: shape) }
}

extension LayerRecipe {
    /// The methods of the paper's ablation, worst first, by the names of `errors.json`.
    static let methods: [(name: String, recipe: LayerRecipe)] = [
        ("rtn", LayerRecipe(.none, .none, .nearest)), ("lorc", LayerRecipe(.none, .error, .nearest)),
        ("gptq", LayerRecipe(.none, .none, .gptq)), ("svd", LayerRecipe(.none, .weights(iterations: 1), .nearest)),
        ("smooth", LayerRecipe(.search(points: 20), .none, .nearest)),
        ("svdquant", LayerRecipe(.search(points: 20), .weights(iterations: 1), .nearest)),
        ("svdquant_iters", LayerRecipe(.search(points: 20), .weights(iterations: 100), .nearest)),
        ("svdquant_gptq", LayerRecipe(.search(points: 20), .weights(iterations: 1), .gptq)),
        ("svdquant_iters_gptq", LayerRecipe(.search(points: 20), .weights(iterations: 100), .gptq)),
    ]

    private init(_ smoothing: Smoothing, _ branch: Branch, _ rounding: Rounding) {
        self.init()
        self.smoothing = smoothing
        self.branch = branch
        self.rounding = rounding
    }
}
