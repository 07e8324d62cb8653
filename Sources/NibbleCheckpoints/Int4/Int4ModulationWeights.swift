public import NibbleTensors

/// The weights of a modulation layer (adaLN) in 4 bits with 16-bit activations, in plain row-major order and the outputs'
/// original order, in which the vectors (shift, scale, gate, …) come one after the other:
///
///     y = W · x + bias,   W[n, k] = codes[n, k] · scales[n, k / 64] + zeros[n, k / 64]
public struct Int4ModulationWeights: Sendable {
    /// `[out, in]` U8, 0...15.
    public var codes: Tensor
    /// `[out, in / 64]` BF16 or F16, finite; not zero where two codes of the group differ.
    public var scales: Tensor
    /// What is added to code times scale, near -7 scales: `[out, in / 64]` BF16 or F16, finite.
    public var zeros: Tensor
    /// `[out]` BF16 or F16, as stored: 1 is added in the vectors that scale, since the engine multiplies by them as they
    /// are. See `originalBias`.
    public var bias: Tensor
    /// Vectors that the outputs are made of: 3 in a single block, 6 in a double block; 1 where nothing is interleaved and
    /// no 1 is added.
    public let splits: Int

    /// Weights of known parts; shapes as the properties say.
    public init(codes: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor, splits: Int) {
        let (outputs, inputs) = (codes.shape[0], codes.shape[1])
        let groups: Shape = [outputs, inputs / ModulationLayout.groupSize]
        precondition(codes.dtype == .uint8 && scales.shape == groups && zeros.shape == groups)
        precondition(bias.shape == [outputs] && splits > 0 && outputs.isMultiple(of: splits))
        self.codes = codes
        self.scales = scales
        self.zeros = zeros
        self.bias = bias
        self.splits = splits
    }

    /// Output channels.
    public var outputs: Int { codes.shape[0] }
    /// Input channels.
    public var inputs: Int { codes.shape[1] }

    /// The bias without the folded 1, f32. Where the original was small, the sum's rounding to 16 bits took its last
    /// digits: it is off by up to half a unit in the last place of the stored number.
    public func originalBias() -> [Float] { Self.originalBias(bias, splits: splits) }

    static func originalBias(_ bias: Tensor, splits: Int) -> [Float] {
        var values = bias.floats()
        for range in scaleOutputs(values.count, splits: splits) { for index in range { values[index] -= 1 } }
        return values
    }

    /// The outputs whose stored bias holds a 1 more than the original's: the second vector and the last but one, which
    /// for three vectors are the same.
    static func scaleOutputs(_ outputs: Int, splits: Int) -> [Range<Int>] {
        guard splits > 1 else { return [] }
        let width = outputs / splits
        return Set([1, splits - 2]).sorted().map { $0 * width..<($0 + 1) * width }
    }
}

extension Int4ModulationWeights {
    /// Reads Nunchaku's order.
    ///
    /// - Parameters:
    ///   - splits: vectors that the outputs are made of.
    ///   - pool: the threads that bring the codes into order; nil: this one.
    ///   - part: gives the stored tensor of a key: `qweight`, `wscales`, `wzeros`, `bias`; of shapes that fit.
    /// - Throws: what `part` throws.
    init(
        splits: Int, on pool: ThreadPool? = nil, packed part: (_ key: String) throws(CheckpointError) -> Tensor
    ) throws(CheckpointError) {
        let codes = ModulationLayout.unpackCodes(try part("qweight"), splits: splits, on: pool)
        let groups = codes.shape[1] / ModulationLayout.groupSize
        let bias = try part("bias")
        self.init(
            codes: codes,
            scales: ModulationLayout.unpackScales(try part("wscales"), groups: groups, splits: splits),
            zeros: ModulationLayout.unpackScales(try part("wzeros"), groups: groups, splits: splits),
            bias: ModulationLayout.unpackScales(bias.reshaped([1, bias.shape[0]]), groups: 1, splits: splits)
                .reshaped(bias.shape),
            splits: splits)
    }

    /// The tensors of a Nunchaku file by their keys. Outputs must be a multiple of 4, inputs of 64.
    ///
    /// - Parameter pool: the threads that bring the codes into order; nil: this one.
    /// - Returns: `qweight`, `wscales`, `wzeros`, `bias`.
    public func packed(on pool: ThreadPool? = nil) -> [String: Tensor] {
        let biasRow = ModulationLayout.packScales(bias.reshaped([outputs, 1]), splits: splits).rows(0..<1)
        return [
            "qweight": ModulationLayout.packCodes(codes, splits: splits, on: pool),
            "wscales": ModulationLayout.packScales(scales, splits: splits),
            "wzeros": ModulationLayout.packScales(zeros, splits: splits), "bias": biasRow.reshaped([outputs]),
        ]
    }

    /// The first number that cannot be computed with; nil where all is well.
    func fault() -> Int4Fault? {
        let groups = scales.shape[1]
        let codes = codes.address.assumingMemoryBound(to: UInt8.self)
        for (index, scale) in scales.floats().enumerated() where !scale.isFinite || scale == 0 {
            let first = index * ModulationLayout.groupSize
            // A group of equal weights needs no scale: all of it is in the zero.
            let isUsed = (first..<first + ModulationLayout.groupSize).contains { codes[$0] != codes[first] }
            guard !scale.isFinite || isUsed else { continue }
            return Int4Fault(
                key: "wscales",
                reason: "the scale of output \(index / groups), group \(index % groups) is \(scale)"
                    + (scale == 0 ? ", but its codes differ" : ""))
        }
        return Int4Weights.fault(in: ["wzeros": zeros, "bias": bias])
    }
}
