internal import Foundation
internal import NibbleCheckpoints
internal import NibbleTensors

/// What T5 has in the place of position embeddings: a number for each head and bucket of distances, added to attention's
/// scores (Raffel et al., arXiv 1910.10683, section 2.1). The first block holds it; all use it.
struct T5RelativePositionBias: Sendable {
    /// `[buckets, heads]`.
    private let weight: Tensor
    private let maximumDistance: Int

    /// Reads `weight`.
    init(_ config: T5Config, _ weights: WeightReader) throws(CheckpointError) {
        weight = try weights.tensor("weight", [config.buckets, config.heads])
        maximumDistance = config.maximumDistance
    }

    /// The bias between `tokens` queries and as many keys, in memory that is asked for.
    func callAsFunction(tokens: Int, memory: (Shape) -> Tensor) -> RelativeBias {
        let heads = weight.width
        let values = weight.floats()
        let table = memory([heads, 2 * tokens - 1])
        let target = table.mutableAddress.assumingMemoryBound(to: Float.self)
        for place in 0..<2 * tokens - 1 {
            let bucket = Self.bucket(
                distance: place - (tokens - 1), buckets: weight.rows, maximumDistance: maximumDistance)
            for head in 0..<heads { target[head * table.rowStride + place] = values[bucket * heads + head] }
        }
        return RelativeBias(table: table)
    }

    /// The bucket of a distance, key minus query. The first half of the buckets is for keys up to the query, the second
    /// for keys after it; the first half of each is for one distance each, the rest for ranges that grow
    /// logarithmically up to `maximumDistance`.
    ///
    /// In 32-bit floats, as torch computes it: at the edges of ranges the rounding decides.
    static func bucket(distance: Int, buckets: Int, maximumDistance: Int) -> Int {
        let half = buckets / 2
        let exact = half / 2
        let first = distance > 0 ? half : 0
        let magnitude = abs(distance)
        if magnitude < exact { return first + magnitude }
        let ratio = logf(Float(magnitude) / Float(exact)) / Float(log(Double(maximumDistance) / Double(exact)))
        return first + min(exact + Int(ratio * Float(half - exact)), half - 1)
    }
}
