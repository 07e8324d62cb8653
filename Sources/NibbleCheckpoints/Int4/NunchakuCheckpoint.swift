public import NibbleTensors

/// A FLUX.1 that SVDQuant made for Nunchaku's INT4 kernels: a single file with its configuration in the metadata, or the
/// older folder (`transformer_blocks.safetensors`, `unquantized_layers.safetensors`, `config.json`). As a source it has
/// the tensors as stored, under the names of Nunchaku's C++ engine, whichever names the file has.
public struct NunchakuCheckpoint: Int4Checkpoint {
    /// The file or folder.
    public let location: String
    /// The engine's names.
    public let tensorNames: Set<String>
    /// What a single file's `__metadata__` is: as read, or as Nunchaku's `merge_safetensors` makes it of a folder.
    public let metadata: [String: String]
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// Names of the tensors that are not quantized.
    public let plainTensors: [String]
    /// Nunchaku's.
    public var structure: Int4Structure { .nunchaku }

    let sizes: Int4FluxSizes
    private let files: Int4Files

    /// Opens a checkpoint and compares every name, type and shape with what the configuration asks for. Numbers are
    /// looked at when a layer is read.
    ///
    /// - Parameter path: the file or the folder.
    /// - Throws: `CheckpointError`: `.wrongFormat` for something else than INT4 weights of Nunchaku, NVFP4 and LoRAs
    ///   among them.
    public init(_ path: String) throws(CheckpointError) {
        try self.init(try Int4Files(path))
    }

    init(_ files: Int4Files) throws(CheckpointError) {
        try Self.checkKind(files)
        let path = files.location
        let metadata =
            files.isLegacyFolder
            ? try Int4Metadata(legacyFolder: path, rank: try files.firstRank())
            : try Int4Metadata(files.metadata, path: path)
        let schema = Int4FluxSchema(metadata.sizes)
        try Int4ShapeCheck(files: files, form: .nunchaku).check(
            schema.layers, plain: schema.plain, statedRank: metadata.rank)
        self.files = files
        location = path
        tensorNames = files.tensorNames
        self.metadata = metadata.strings
        sizes = metadata.sizes
        layers = schema.layers
        plainTensors = schema.plain.map(\.name)
    }

    private static func checkKind(_ files: Int4Files) throws(CheckpointError) {
        func refusal(_ found: String, _ expected: String = "a 4-bit transformer, such as Nunchaku's INT4")
            -> CheckpointError
        {
            .wrongFormat(path: files.location, found: found, expected: expected)
        }
        switch files.kind {
        case .svdQuant(.int4, _, _) where files.form == .nunchaku: return
        case .svdQuant(.nvfp4, _, _), .nunchakuLite(.nvfp4, _): throw .floatFormat(files.location)
        case .svdQuant, .nunchakuLite: throw refusal("a Nunchaku Lite model", "the form of Nunchaku's engine")
        case .nibble, .nibbleT5: throw refusal("\(files.kind)", "the form of Nunchaku's engine")
        case .lora: throw refusal("a LoRA, an addition to a model and not a model")
        case .unknown: throw refusal("of no known kind")
        default: throw refusal("\(files.kind)")
        }
    }

    /// The strings of a new single file's `__metadata__`.
    ///
    /// - Parameters:
    ///   - configuration: the text of the transformer's `config.json`.
    ///   - rank: of all low-rank pairs.
    /// - Returns: what Nunchaku's `merge_safetensors` would write.
    public static func metadata(configuration: String, rank: Int) -> [String: String] {
        Int4Metadata.nunchakuStrings(config: configuration, comfyConfig: "", rank: rank)
    }

    /// A tensor as stored.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor { try files.tensor(name) }

    /// As the file has it.
    public func rank(of layer: Int4Layer) -> Int? { files.rank(of: layer, .nunchaku) }

    /// As the file has it.
    public func dtype(of key: String, in layer: Int4Layer) -> DType { files.dtype(of: key, in: layer, .nunchaku) }

    /// Reads a layer; see `Int4Checkpoint`.
    public func weights(_ layer: Int4Layer, rows: Range<Int>?) throws(CheckpointError) -> Int4Weights {
        try files.weights(layer, rows: rows, .nunchaku)
    }

    /// Reads a modulation; see `Int4Checkpoint`.
    public func modulation(
        _ layer: Int4Layer, on pool: ThreadPool?
    ) throws(CheckpointError) -> Int4ModulationWeights {
        try files.modulation(layer, on: pool, .nunchaku)
    }

    /// Lets a layer's pages of the file leave this process's memory.
    public func release(_ layer: Int4Layer) throws(CheckpointError) { try files.release(layer, .nunchaku) }
}
