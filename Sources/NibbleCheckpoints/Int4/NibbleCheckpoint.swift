public import NibbleTensors

/// A FLUX.1's transformer or text encoder whose 4-bit layers lie in the order that the CPU's kernels read: one safetensors file that is only mapped, so
/// that opening it reads no weights and a model larger than memory runs block by block. docs/nibble-format.md is its
/// description.
public struct NibbleCheckpoint: Int4Checkpoint {
    /// The version that is written, and the only one that is read: `format_version`.
    static let version = "1"
    /// `format`.
    static let format = "nibble"
    /// Says which of a model's folders the file stands for; a transformer has none.
    static let componentKey = "component"

    /// The file.
    public let location: String
    /// The structure's names of layers, with a nibble file's keys.
    public let tensorNames: Set<String>
    /// What the checkpoint that it was made from said of itself.
    public let metadata: [String: String]
    /// How layers are cut: as in the checkpoint that it was made from.
    public let structure: Int4Structure
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// Names of the tensors that are not quantized.
    public let plainTensors: [String]
    /// Its layers are views of the file.
    public var isMapped: Bool { true }

    private let files: Int4Files

    /// Opens a file and compares every name, type, shape and place with what its configuration asks for. No weights are
    /// read.
    ///
    /// - Parameter path: the file.
    /// - Throws: `CheckpointError`: `.wrongConfiguration` for another version, `.malformedTensor` for data that do not lie
    ///   at a multiple of 64 bytes.
    public init(_ path: String) throws(CheckpointError) {
        try self.init(try Int4Files(path))
    }

    init(_ files: Int4Files) throws(CheckpointError) {
        let path = files.location
        var strings = files.metadata
        for (key, expected) in [("format", Self.format), ("format_version", Self.version)] {
            let found = strings.removeValue(forKey: key)
            guard found == expected else {
                throw .wrongConfiguration(
                    path: path, key: "__metadata__.\(key)", found: found.map { "'\($0)'" } ?? "missing",
                    expected: "\(expected); write the file again with 'nibble convert --to nibble'")
            }
        }
        let contents = try Contents(strings, path: path)
        try Int4ShapeCheck(files: files, form: .nibble).check(
            contents.layers, plain: contents.plain, statedRank: contents.rank)
        self.files = files
        location = path
        tensorNames = files.tensorNames
        self.metadata = strings
        structure = contents.structure
        layers = contents.layers
        plainTensors = contents.plain.map(\.name)
    }

    /// What the metadata ask for.
    private struct Contents {
        let structure: Int4Structure
        let layers: [Int4Layer]
        let plain: [(name: String, shape: Shape)]
        /// Of all low-rank pairs; nil where they may differ.
        let rank: Int?

        init(_ strings: [String: String], path: String) throws(CheckpointError) {
            switch strings[NibbleCheckpoint.componentKey] {
            case nil:
                let metadata = try Int4Metadata(strings, path: path)
                let schema = try metadata.schema(path: path)
                (structure, rank) = (metadata.structure, metadata.rank)
                (layers, plain) = (schema.layers, schema.plain)
            case ModelFolder.Component.textEncoder2.rawValue:
                guard let configuration = strings["config"] else {
                    throw .wrongConfiguration(
                        path: path, key: "__metadata__.config", found: "missing",
                        expected: "the configuration of a T5 encoder")
                }
                let schema = try Int4T5Schema(configuration: configuration, path: "\(path), config")
                (structure, rank) = (.t5, nil)
                (layers, plain) = (schema.layers, schema.plain)
            case let other?:
                throw .wrongConfiguration(
                    path: path, key: "__metadata__.\(NibbleCheckpoint.componentKey)", found: "'\(other)'",
                    expected: "\(ModelFolder.Component.textEncoder2.rawValue), or none: a transformer")
            }
        }
    }

    /// A tensor as stored.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor { try files.tensor(name) }

    /// As the file has it.
    public func rank(of layer: Int4Layer) -> Int? { files.rank(of: layer, .nibble) }

    /// As the file has it.
    public func dtype(of key: String, in layer: Int4Layer) -> DType { files.dtype(of: key, in: layer, .nibble) }

    /// Lets a layer's pages of the file leave this process's memory.
    public func release(_ layer: Int4Layer) throws(CheckpointError) { try files.release(layer, .nibble) }

    private func part(_ key: String, of layer: Int4Layer) throws(CheckpointError) -> Tensor {
        try files.part(key, of: layer, .nibble)
    }

    /// A part that a layer of the kind W4A8 may have not: zeros then.
    private func part(
        _ key: String, of layer: Int4Layer, orZeros shape: @autoclosure () -> Shape
    ) throws(CheckpointError) -> Tensor {
        guard layer.kind != .w4a8 || files.entry("\(layer.name).\(Int4Form.nibble.key(key))") != nil else {
            return Tensor(zeros: shape(), .bfloat16)
        }
        return try part(key, of: layer)
    }

    /// The smoothing for the record; where there is none, that which is in use.
    private func originalSmooth(of layer: Int4Layer) throws(CheckpointError) -> Tensor {
        try part(layer.kind == .w4a8 ? "smooth" : "smooth_orig", of: layer)
    }
}

// MARK: - Layers as they lie

extension NibbleCheckpoint {
    /// Views of the file. Its vectors, which have to be copied anyway, are looked at; all other numbers are not.
    public func packed(_ layer: Int4Layer, on pool: ThreadPool) throws(CheckpointError) -> Int4PackedWeights {
        let tiles = KernelOrder.tiles(layer.outputs)
        let result = Int4PackedWeights(
            codes: try part("qweight", of: layer), scales: try part("wscales", of: layer),
            down: try part("lora_down", of: layer, orZeros: [layer.inputs / 2, 0, 2]),
            up: try part("lora_up", of: layer, orZeros: [tiles, 0, KernelOrder.tileOutputs]),
            smooth: try part("smooth", of: layer), originalSmooth: try originalSmooth(of: layer),
            bias: try part("bias", of: layer, orZeros: [layer.outputs]))
        try files.check(
            Int4Weights.fault(smooth: result.smooth) ?? Int4Weights.fault(in: ["bias": result.bias]), layer, .nibble)
        return result
    }

    /// Views of the file; the bias is looked at.
    public func packedModulation(
        _ layer: Int4Layer, on pool: ThreadPool
    ) throws(CheckpointError) -> Int4PackedModulation {
        guard case .w4a16(let splits) = layer.kind else { preconditionFailure("'\(layer.name)' is no modulation") }
        let result = Int4PackedModulation(
            codes: try part("qweight", of: layer), scales: try part("wscales", of: layer),
            zeros: try part("wzeros", of: layer), bias: try part("bias", of: layer), splits: splits)
        try files.check(Int4Weights.fault(in: ["bias": result.bias]), layer, .nibble)
        return result
    }
}

// MARK: - Layers in plain order

extension NibbleCheckpoint {
    /// Reads a layer; see `Int4Checkpoint`.
    public func weights(_ layer: Int4Layer, rows: Range<Int>?) throws(CheckpointError) -> Int4Weights {
        let rows = rows ?? 0..<layer.outputs
        let tiles = KernelOrder.tiles(rows)
        let weights = Int4Weights(
            codes: KernelOrder.unpack(codes: try part("qweight", of: layer).rows(tiles), as: .int8),
            scales: KernelOrder.unpack(scales: try part("wscales", of: layer).rows(tiles)),
            smooth: try part("smooth", of: layer), originalSmooth: try originalSmooth(of: layer),
            down: KernelOrder.unpack(down: try part("lora_down", of: layer, orZeros: [layer.inputs / 2, 0, 2])),
            up: KernelOrder.unpack(
                up: try part(
                    "lora_up", of: layer, orZeros: [KernelOrder.tiles(layer.outputs), 0, KernelOrder.tileOutputs]
                ).rows(tiles)),
            bias: try part("bias", of: layer, orZeros: [layer.outputs]).rows(rows))
        try files.check(weights.fault(firstRow: rows.lowerBound), layer, .nibble)
        return weights
    }

    /// Reads a modulation; see `Int4Checkpoint`.
    public func modulation(
        _ layer: Int4Layer, on pool: ThreadPool?
    ) throws(CheckpointError) -> Int4ModulationWeights {
        guard case .w4a16(let splits) = layer.kind else { preconditionFailure("'\(layer.name)' is no modulation") }
        let packed = try part("qweight", of: layer)
        let codes = Tensor(zeros: [layer.outputs, layer.inputs], .uint8)
        forParts(of: layer.outputs, size: NunchakuLayout.tileRows, on: pool) { rows in
            KernelOrder.unpack(codes: packed.rows(KernelOrder.tiles(rows)), as: .uint8).copy(to: codes.rows(rows))
        }
        let weights = Int4ModulationWeights(
            codes: codes, scales: KernelOrder.unpack(scales: try part("wscales", of: layer)),
            zeros: KernelOrder.unpack(scales: try part("wzeros", of: layer)), bias: try part("bias", of: layer),
            splits: splits)
        try files.check(weights.fault(), layer, .nibble)
        return weights
    }
}
