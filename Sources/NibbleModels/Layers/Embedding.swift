public import NibbleCheckpoints
public import NibbleTensors

/// A table of vectors, one for each token of a vocabulary.
public struct Embedding: Sendable {
    /// `[vocabularySize, width]` of any float type, as the checkpoint stores it.
    public let weight: Tensor

    /// Reads `weight`.
    ///
    /// - Parameters:
    ///   - weights: a reader of this layer's tensors.
    ///   - count: the number of vectors.
    ///   - width: the channels of each.
    /// - Throws: `CheckpointError` when the table is missing or has another shape.
    public init(_ weights: WeightReader, count: Int, width: Int) throws(CheckpointError) {
        weight = try weights.tensor("weight", [count, width])
    }

    /// Looks up the vectors of some tokens.
    ///
    /// - Parameters:
    ///   - ids: the tokens.
    ///   - y: `[ids, width]`, f32 or bf16, written.
    ///   - compute: what to compute with.
    /// - Throws: `ModelError.unknownToken` for an id outside the vocabulary.
    public func callAsFunction(_ ids: [Int32], into y: Tensor, on compute: Compute) throws(ModelError) {
        precondition(y.shape == [ids.count, weight.width])
        for id in ids where !(0..<weight.rows).contains(Int(id)) {
            throw .unknownToken(id: id, vocabularySize: weight.rows)
        }
        for (row, id) in ids.enumerated() {
            compute.convert(weight.rows(Int(id)..<Int(id) + 1), into: y.rows(row..<row + 1))
        }
    }
}
