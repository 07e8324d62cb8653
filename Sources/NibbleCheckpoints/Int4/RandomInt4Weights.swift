public import NibbleTensors

/// A FLUX.1's transformer or T5 of random 4-bit layers, of whatever size: to learn what a machine does with a model
/// before one has it. Codes times scale have the variance 1/inputs, as `RandomWeights`; a low-rank pair adds little;
/// smoothing is 1. The tensors that are not quantized are those of `RandomWeights`.
public struct RandomInt4Weights: Int4Checkpoint {
    /// What error messages name in the place of a file.
    public let location = "random 4-bit weights"
    /// How layers are cut: Nunchaku's, or T5's.
    public let structure: Int4Structure
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// Names of the tensors that are not quantized.
    public let plainTensors: [String]
    /// As a file's: nothing where there is no configuration to speak of.
    public let metadata: [String: String]
    /// None: every name that is asked for is there.
    public let tensorNames: Set<String> = []

    private let rank: Int
    private let seed: UInt64
    private let plain: RandomWeights
    private let shapes: [String: Shape]

    /// What widths of layers are multiples of, as in every file.
    public static let widthMultiple = NunchakuLayout.tileRows

    /// The rank of most checkpoints.
    public static let usualRank = 32

    /// A transformer of some sizes, without a configuration.
    ///
    /// - Parameters:
    ///   - doubleBlocks: their number.
    ///   - singleBlocks: their number.
    ///   - heads: heads of attention.
    ///   - headDim: their width; heads × headDim is a multiple of `widthMultiple`.
    ///   - rank: of the low-rank pairs, a multiple of 16.
    public init(doubleBlocks: Int, singleBlocks: Int, heads: Int, headDim: Int, rank: Int = Self.usualRank) {
        precondition((heads * headDim).isMultiple(of: Self.widthMultiple) && Int4Weights.ranks.contains(rank))
        var sizes = Int4FluxSizes()
        (sizes.doubleBlocks, sizes.singleBlocks) = (doubleBlocks, singleBlocks)
        (sizes.heads, sizes.headDim) = (heads, headDim)
        let schema = Int4FluxSchema(sizes)
        self.init(.nunchaku, schema.layers, schema.plain, metadata: [:], rank: rank, seed: 0, on: nil)
    }

    /// A transformer, to be written.
    ///
    /// - Parameters:
    ///   - configuration: the text of diffusers' `config.json`.
    ///   - path: where it comes from, for errors.
    ///   - seed: other numbers for another seed.
    ///   - pool: the threads that make what is not quantized; nil: the one that asks.
    /// - Throws: `CheckpointError.wrongConfiguration` or `.malformed`, also for widths that 4-bit layers cannot have.
    public init(
        transformer configuration: String, path: String, seed: UInt64, on pool: ThreadPool? = nil
    ) throws(CheckpointError) {
        let schema = try Int4FluxSchema(configuration: configuration, path: path)
        self.init(
            .nunchaku, schema.layers, schema.plain,
            metadata: Int4Metadata.nunchakuStrings(config: configuration, comfyConfig: "", rank: Self.usualRank),
            rank: Self.usualRank, seed: seed, on: pool)
    }

    /// A T5 encoder, to be written. Parameters and errors as of a transformer, with transformers' `config.json`.
    public init(
        textEncoder configuration: String, path: String, seed: UInt64, on pool: ThreadPool? = nil
    ) throws(CheckpointError) {
        let schema = try Int4T5Schema(configuration: configuration, path: path)
        self.init(
            .t5, schema.layers, schema.plain,
            metadata: [
                NibbleCheckpoint.componentKey: ModelFolder.Component.textEncoder2.rawValue, "config": configuration,
            ], rank: Self.usualRank, seed: seed, on: pool)
    }

    private init(
        _ structure: Int4Structure, _ layers: [Int4Layer], _ plain: [(name: String, shape: Shape)],
        metadata: [String: String], rank: Int, seed: UInt64, on pool: ThreadPool?
    ) {
        self.structure = structure
        self.layers = layers
        self.metadata = metadata
        self.rank = rank
        self.seed = seed
        self.plain = RandomWeights(dtype: .bfloat16, seed: seed, on: pool)
        plainTensors = plain.map(\.name)
        shapes = Dictionary(plain.map { ($0.name, $0.shape) }) { first, _ in first }
    }

    /// Bytes of all tensors of a file of a form.
    public func byteCount(as form: Int4Form) -> Int {
        let quantized = layers.flatMap { layer in
            layer.tensors(rank: rank(of: layer) ?? 0, form: form).values.map {
                $0.shape.elementCount * $0.dtype.byteSize
            }
        }
        return quantized.reduce(0, +) + shapes.values.reduce(0) { $0 + $1.elementCount * DType.bfloat16.byteSize }
    }

    /// One that is not quantized.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        guard let shape = shapes[name] else { throw .missingTensor(path: location, name: name) }
        return try plain.tensor(name, expecting: shape)
    }

    /// New numbers; the same for the same name and shape.
    public func tensor(_ name: String, expecting shape: Shape) throws(CheckpointError) -> Tensor {
        try plain.tensor(name, expecting: shape)
    }

    /// The same for all.
    public func rank(of layer: Int4Layer) -> Int? {
        if case .w4a16 = layer.kind { return nil }
        return rank
    }

    /// New numbers; the same for the same layer.
    public func weights(_ layer: Int4Layer, rows: Range<Int>?) throws(CheckpointError) -> Int4Weights {
        let rows = rows ?? 0..<layer.outputs
        let smooth = constant(1, [layer.inputs])
        let down = Tensor(zeros: [rank, layer.inputs], .bfloat16)
        numbers(layer, "lora_down").fill(down, deviation: 1 / Float(layer.inputs).squareRoot())
        // A sixteenth of the variance that the codes give.
        let up = Tensor(zeros: [layer.outputs, rank], .bfloat16)
        numbers(layer, "lora_up").fill(up, deviation: 1 / (4 * Float(rank).squareRoot()))
        return Int4Weights(
            codes: codes(of: layer, rows: rows, .int8), scales: scales(of: layer, rows: rows), smooth: smooth,
            originalSmooth: smooth, down: down, up: up.rows(rows), bias: constant(0, [rows.count]))
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
        // Codes are 0...15 here, 8 in the middle.
        let zeros = constant(-8 * Self.scale(of: layer), scales.shape)
        return Int4ModulationWeights(
            codes: codes(of: layer, rows: rows, .uint8, on: pool), scales: scales, zeros: zeros, bias: bias,
            splits: splits)
    }

    private func numbers(_ layer: Int4Layer, _ key: String) -> RandomNumbers {
        RandomNumbers("\(layer.name).\(key)", seed: seed)
    }

    private func codes(of layer: Int4Layer, rows: Range<Int>, _ dtype: DType, on pool: ThreadPool? = nil) -> Tensor {
        let codes = Tensor(zeros: [rows.count, layer.inputs], dtype)
        numbers(layer, "qweight").fill(codes: codes, from: rows.lowerBound * layer.inputs, on: pool)
        return codes
    }

    private func scales(of layer: Int4Layer, rows: Range<Int>) -> Tensor {
        constant(Self.scale(of: layer), [rows.count, layer.inputs / Int4Weights.groupSize])
    }

    private static func scale(of layer: Int4Layer) -> Float {
        1 / (RandomNumbers.codeDeviation * Float(layer.inputs).squareRoot())
    }

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
