public import NibbleTensors

/// A FLUX.1 of random 4-bit layers in Nunchaku's structure, of whatever size: to learn what a machine does with a model
/// before one has it. Weights are uniform within ±1/√inputs, as `RandomWeights`, smoothing is 1; the tensors that are
/// not quantized are those of `RandomWeights`.
public struct RandomInt4Weights: Int4Checkpoint {
    /// What error messages name in the place of a file.
    public let location = "random 4-bit weights"
    /// Nunchaku's.
    public let structure = Int4Structure.nunchaku
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// Names of the tensors that are not quantized.
    public let plainTensors: [String]
    /// Nothing: there is no file to speak of.
    public let metadata: [String: String] = [:]
    /// None: every name that is asked for is there.
    public let tensorNames: Set<String> = []

    private let rank: Int
    private let plain = RandomWeights(dtype: .bfloat16)

    /// What widths of layers are multiples of, as in every file.
    public static let widthMultiple = NunchakuLayout.tileRows

    /// - Parameters:
    ///   - doubleBlocks: their number.
    ///   - singleBlocks: their number.
    ///   - heads: heads of attention.
    ///   - headDim: their width; heads × headDim is a multiple of `widthMultiple`.
    ///   - rank: of the low-rank pairs, a multiple of 16.
    public init(doubleBlocks: Int, singleBlocks: Int, heads: Int, headDim: Int, rank: Int = 32) {
        precondition((heads * headDim).isMultiple(of: Self.widthMultiple) && Int4Weights.ranks.contains(rank))
        var sizes = Int4FluxSizes()
        (sizes.doubleBlocks, sizes.singleBlocks) = (doubleBlocks, singleBlocks)
        (sizes.heads, sizes.headDim) = (heads, headDim)
        let schema = Int4FluxSchema(sizes)
        layers = schema.layers
        plainTensors = schema.plain.map(\.name)
        self.rank = rank
    }

    /// Always fails: without a shape there is nothing to make.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor { try plain.tensor(name) }

    /// New numbers; the same for the same name and shape.
    public func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor {
        try plain.tensor(name, expecting: shape)
    }

    /// The same for all.
    public func rank(of layer: Int4Layer) -> Int? {
        if case .w4a4 = layer.kind { return rank }
        return nil
    }

    /// New numbers; the same for the same layer.
    public func weights(_ layer: Int4Layer, rows: Range<Int>?) throws(CheckpointError) -> Int4Weights {
        let rows = rows ?? 0..<layer.outputs
        let smooth = constant(1, [layer.inputs])
        let random: (String, Shape) throws(CheckpointError) -> Tensor = { key, shape throws(CheckpointError) in
            try plain.tensor("\(layer.name).\(key)", expecting: shape)
        }
        return Int4Weights(
            codes: codes(of: layer, rows: rows, offset: -8, .int8), scales: scales(of: layer, rows: rows),
            smooth: smooth, originalSmooth: smooth, down: try random("lora_down", [rank, layer.inputs]),
            up: try random("lora_up", [layer.outputs, rank]).rows(rows),
            bias: try random("bias", [layer.outputs]).rows(rows))
    }

    /// New numbers; the same for the same layer.
    public func modulation(
        _ layer: Int4Layer, on pool: ThreadPool?
    ) throws(CheckpointError) -> Int4ModulationWeights {
        guard case .w4a16(let splits) = layer.kind else { preconditionFailure("'\(layer.name)' is no modulation") }
        let rows = 0..<layer.outputs
        // Vectors that scale are near 1.
        let bias = constant(0, [layer.outputs])
        for outputs in Int4ModulationWeights.scaleOutputs(layer.outputs, splits: splits) {
            fill(bias, outputs, 1)
        }
        let scales = scales(of: layer, rows: rows)
        let zeros = constant(-8 * Self.scale(of: layer), scales.shape)
        return Int4ModulationWeights(
            codes: codes(of: layer, rows: rows, offset: 0, .uint8), scales: scales, zeros: zeros, bias: bias,
            splits: splits)
    }

    /// All sixteen codes, for some outputs: sixteen of each 64 random bits.
    private func codes(of layer: Int4Layer, rows: Range<Int>, offset: Int8, _ dtype: DType) -> Tensor {
        let tensor = Tensor(zeros: [rows.count, layer.inputs], dtype)
        let codes = tensor.mutableAddress.assumingMemoryBound(to: Int8.self)
        let seed = RandomWeights.seed(layer.name)
        for index in stride(from: 0, to: tensor.elementCount, by: 16) {
            var bits = RandomWeights.bits(seed: seed, index: (rows.lowerBound * layer.inputs + index) / 16)
            for code in 0..<16 {
                codes[index + code] = Int8(bits & 15) + offset
                bits >>= 4
            }
        }
        return tensor
    }

    private func scales(of layer: Int4Layer, rows: Range<Int>) -> Tensor {
        constant(Self.scale(of: layer), [rows.count, layer.inputs / Int4Weights.groupSize])
    }

    /// Codes reach to 8.
    private static func scale(of layer: Int4Layer) -> Float { 1 / (8 * Float(layer.inputs).squareRoot()) }

    private func constant(_ value: Float, _ shape: Shape) -> Tensor {
        let tensor = Tensor(zeros: shape, .bfloat16)
        fill(tensor, 0..<tensor.elementCount, value)
        return tensor
    }

    private func fill(_ tensor: Tensor, _ range: Range<Int>, _ value: Float) {
        let elements = tensor.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        for index in range { elements[index] = BFloat16(value) }
    }
}
