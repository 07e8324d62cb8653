internal import Foundation
internal import NibbleTensors

/// What a layer's inputs are divided by and its weights multiplied by (SVDQuant, §4.1).
struct SmoothingFactors {
    /// The powers that they come from.
    let alpha, beta: Float
    /// `[in]`, numbers that bfloat16 holds, since that is what the file stores; finite, positive.
    let values: [Float]

    /// All 1.
    static func ones(_ count: Int) -> SmoothingFactors {
        SmoothingFactors(alpha: 0, beta: 0, values: Array(repeating: 1, count: count))
    }

    private init(alpha: Float, beta: Float, values: [Float]) {
        (self.alpha, self.beta, self.values) = (alpha, beta, values)
    }

    /// s[k] = inputs[k]^α / weights[k]^β; 1 where that is 0, and everywhere if it is not finite somewhere.
    ///
    /// - Parameters:
    ///   - inputs: the largest magnitude of each channel.
    ///   - weights: the largest magnitude of each channel's weights, in all layers that read it.
    ///   - alpha: the inputs' power.
    ///   - beta: the weights' power.
    init(inputs: [Float], weights: [Float], alpha: Float, beta: Float) {
        let values = zip(inputs, weights).map { input, weight in
            let value = Float(pow(Double(input), Double(alpha)) / pow(Double(weight), Double(beta)))
                .roundedToBFloat16
            return value == 0 ? 1 : value
        }
        self.init(
            alpha: alpha, beta: beta,
            values: values.allSatisfy(\.isFinite) ? values : Array(repeating: 1, count: values.count))
    }

    /// The pairs of powers that a search tries (DeepCompressor's order): none, α alone, α and β = 1 - α.
    static func grid(points: Int) -> [(alpha: Float, beta: Float)] {
        let powers = (1..<max(points, 1)).map { Float($0) / Float(points) }
        return [(0, 0)] + powers.map { ($0, 0) } + powers.map { ($0, 1 - $0) }
    }
}
