public import NibbleCheckpoints
public import NibbleTensors

/// A FLUX.1 of made-up 4-bit layers, as a quantizer gives them: one at a time, never all. Every number follows from its
/// layer's name.
public struct RandomInt4Checkpoint: Int4Checkpoint {
    /// The rank of every low-rank pair.
    public static let rank = 32

    /// What error messages name in the place of a file.
    public let location = "random 4-bit layers"
    /// Those of the configuration.
    public let layers: [Int4Layer]
    /// The names of what is not quantized.
    public let plainTensors: [String]
    /// As Nunchaku's single file would have it.
    public let metadata: [String: String]
    /// What is not quantized.
    public let tensorNames: Set<String>
    /// Nunchaku's.
    public let structure = Int4Structure.nunchaku

    private let shapes: [String: Shape]

    /// - Parameters:
    ///   - config: the text of diffusers' `config.json`.
    ///   - plainShapes: of the tensors that are not quantized, under the names of Nunchaku's structure.
    /// - Throws: `CheckpointError` for a configuration that is none.
    public init(config: String, plainShapes: [String: Shape]) throws {
        let contents = try NunchakuContents(config: config, rank: Self.rank, path: location)
        layers = contents.layers
        plainTensors = contents.plainTensors
        metadata = contents.metadata
        tensorNames = Set(contents.plainTensors)
        shapes = plainShapes
    }

    /// A tensor that is not quantized.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        guard let shape = shapes[name] else { throw .missingTensor(path: location, name: name) }
        return Self.random(shape, seed: name.utf8.reduce(7) { $0 &* 31 &+ UInt32($1) }, scale: 0.03)
    }

    /// The same for all.
    public func rank(of layer: Int4Layer) -> Int? { if case .w4a4 = layer.kind { Self.rank } else { nil } }

    /// Outputs of a layer.
    public func weights(_ layer: Int4Layer, rows: Range<Int>?) throws(CheckpointError) -> Int4Weights {
        let rows = rows ?? 0..<layer.outputs
        let codes = Tensor(zeros: [rows.count, layer.inputs], .int8)
        let bytes = codes.mutableAddress.assumingMemoryBound(to: Int8.self)
        Self.fill(codes.shape, seed: 1, firstRow: rows.lowerBound) {
            bytes[$0] = Int8(truncatingIfNeeded: Int32($1 % 15) - 7)
        }
        let ones = Tensor(zeros: [layer.inputs], .bfloat16)
        let vector = ones.mutableAddress.assumingMemoryBound(to: UInt16.self)
        for index in 0..<layer.inputs { vector[index] = 0x3f80 }
        func random(_ width: Int, _ seed: UInt32, _ scale: Float) -> Tensor {
            Self.random([rows.count, width], seed: seed, firstRow: rows.lowerBound, scale: scale)
        }
        return Int4Weights(
            codes: codes, scales: random(layer.inputs / 64, 2, 0.004), smooth: ones, originalSmooth: ones,
            down: Self.random([Self.rank, layer.inputs], seed: 3, scale: 0.01), up: random(Self.rank, 4, 0.01),
            bias: random(1, 5, 0.01).reshaped([rows.count]))
    }

    /// A modulation.
    public func modulation(
        _ layer: Int4Layer, on pool: ThreadPool?
    ) throws(CheckpointError) -> Int4ModulationWeights {
        guard case .w4a16(let splits) = layer.kind else { preconditionFailure() }
        let codes = Tensor(zeros: [layer.outputs, layer.inputs], .uint8)
        let bytes = codes.mutableAddress.assumingMemoryBound(to: UInt8.self)
        Self.fill(codes.shape, seed: 6) { bytes[$0] = UInt8(truncatingIfNeeded: $1 % 16) }
        let groups: Shape = [layer.outputs, layer.inputs / 64]
        return Int4ModulationWeights(
            codes: codes, scales: Self.random(groups, seed: 11, scale: 0.002),
            zeros: Self.random(groups, seed: 13, scale: 0.01),
            bias: Self.random([layer.outputs], seed: 17, scale: 0.01), splits: splits)
    }

    /// bfloat16 numbers of a magnitude between half the scale and the scale, of either sign.
    private static func random(_ shape: Shape, seed: UInt32, firstRow: Int = 0, scale: Float) -> Tensor {
        let tensor = Tensor(zeros: shape, .bfloat16)
        let target = tensor.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        fill(shape, seed: seed, firstRow: firstRow) { index, bits in
            let magnitude = scale * (0.5 + Float(bits & 0xff) / 512)
            target[index] = BFloat16(bits & 0x100 == 0 ? magnitude : -magnitude)
        }
        return tensor
    }

    /// Each row begins anew, so that a piece of a layer is what the whole has there.
    private static func fill(_ shape: Shape, seed: UInt32, firstRow: Int = 0, _ body: (Int, UInt32) -> Void) {
        let width = shape.dimensions.dropFirst().reduce(1, *)
        for row in 0..<shape[0] {
            // Knuth's congruential generator; its upper bits are the good ones.
            var state = (seed &+ UInt32(truncatingIfNeeded: firstRow + row) &* 40_503) &* 2_654_435_761
            for index in row * width..<(row + 1) * width {
                state = state &* 1_664_525 &+ 1_013_904_223
                body(index, state >> 16)
            }
        }
    }
}
