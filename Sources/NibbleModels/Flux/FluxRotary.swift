internal import Foundation
public import NibbleTensors

/// The rotary embedding of FLUX: a token's place has three coordinates (index, row, column), each turns a part of a
/// head's channel pairs (RoFormer, arXiv 2104.09864, with theta 10000).
public enum FluxRotary {
    /// - Parameters:
    ///   - places: the coordinates of each token.
    ///   - axes: channels of a head given to each coordinate, all even.
    /// - Returns: cosines and sines, `[tokens, sum(axes) / 2]`.
    public static func angles(places: [SIMD3<Float>], axes: [Int]) -> RotaryAngles {
        let pairs = axes.reduce(0, +) / 2
        // 64-bit angles, as diffusers computes them; only the cosine and sine are rounded.
        let frequencies = axes.enumerated().flatMap { axis, channels in
            (0..<channels / 2).map { (axis: axis, value: 1 / pow(10_000, Double(2 * $0) / Double(channels))) }
        }
        var cosines: [Float] = []
        var sines: [Float] = []
        cosines.reserveCapacity(places.count * pairs)
        sines.reserveCapacity(places.count * pairs)
        for place in places {
            for frequency in frequencies {
                let angle = Double(place[frequency.axis]) * frequency.value
                cosines.append(Float(cos(angle)))
                sines.append(Float(sin(angle)))
            }
        }
        let shape: Shape = [places.count, pairs]
        return RotaryAngles(cosine: Tensor(cosines, shape: shape), sine: Tensor(sines, shape: shape))
    }

    /// The places of a prompt's tokens, all at the origin, and after them those of the patches of a picture.
    ///
    /// - Parameters:
    ///   - textTokens: the number of text tokens.
    ///   - rows: rows of patches (of 2 × 2 latents, 16 × 16 pixels).
    ///   - columns: columns of patches.
    /// - Returns: (0, 0, 0) for each text token, then (0, row, column) for each patch, row by row.
    public static func places(textTokens: Int, rows: Int, columns: Int) -> [SIMD3<Float>] {
        let image = (0..<rows * columns).map { SIMD3(0, Float($0 / columns), Float($0 % columns)) }
        return Array(repeating: .zero, count: textTokens) + image
    }
}
