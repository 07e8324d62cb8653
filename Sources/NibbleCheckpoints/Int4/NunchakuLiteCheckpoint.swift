public import NibbleTensors

/// A FLUX.1 in the form that diffusers' own loader takes ("Nunchaku Lite"): a folder with weights and a `config.json`
/// whose `quantization_config` lists the quantized layers. As a source it has the tensors as stored.
public struct NunchakuLiteCheckpoint: Int4Checkpoint {
    /// The folder, or the file in it.
    public let location: String
    /// Diffusers' names.
    public let tensorNames: Set<String>
    /// `config` and `quantization_config`: the two parts of `config.json`.
    public let metadata: [String: String]
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// Names of the tensors that are not quantized.
    public let plainTensors: [String]
    /// Diffusers'.
    public var structure: Int4Structure { .diffusers }

    private let files: Int4Files

    /// Opens a checkpoint and compares every name, type and shape with what its configuration asks for. Numbers are
    /// looked at when a layer is read.
    ///
    /// - Parameter path: the folder, or the file or index in it.
    /// - Throws: `CheckpointError`.
    public init(_ path: String) throws(CheckpointError) {
        try self.init(try Int4Files(path))
    }

    init(_ files: Int4Files) throws(CheckpointError) {
        switch files.kind {
        case .svdQuant(.nvfp4, _, _), .nunchakuLite(.nvfp4, _): throw .floatFormat(files.location)
        default: break
        }
        let path = files.location
        let configPath = Self.configurationPath(beside: path)
        let metadata = try Int4Metadata(liteConfiguration: configPath, neededBy: path)
        let schema = try metadata.schema(path: configPath)
        try Int4ShapeCheck(files: files, form: .nunchakuLite).check(
            schema.layers, plain: schema.plain, statedRank: metadata.rank)
        self.files = files
        location = path
        tensorNames = files.tensorNames
        self.metadata = metadata.strings
        layers = schema.layers
        plainTensors = schema.plain.map(\.name)
    }

    private static func configurationPath(beside path: String) -> String {
        path.isExistingFolder ? path.appendingPath("config.json") : path.folderOfPath + "config.json"
    }

    /// Whether the configuration beside some weights describes this form.
    static func isDescribed(beside path: String) -> Bool {
        struct Config: Decodable {
            struct Quantization: Decodable { let quant_method: String? }
            let quantization_config: Quantization?
        }
        let config = try? decodeConfiguration(configurationPath(beside: path), as: Config.self)
        return config?.quantization_config?.quant_method == LiteQuantization.method
    }

    /// A tensor as stored.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor { try files.tensor(name) }

    /// As the file has it.
    public func rank(of layer: Int4Layer) -> Int? { files.rank(of: layer, .nunchakuLite) }

    /// As the file has it.
    public func dtype(of key: String, in layer: Int4Layer) -> DType { files.dtype(of: key, in: layer, .nunchakuLite) }

    /// Reads a layer; see `Int4Checkpoint`. There is no record of the original smoothing.
    public func weights(_ layer: Int4Layer, rows: Range<Int>?) throws(CheckpointError) -> Int4Weights {
        try files.weights(layer, rows: rows, .nunchakuLite)
    }

    /// Reads a modulation; see `Int4Checkpoint`.
    public func modulation(
        _ layer: Int4Layer, on pool: ThreadPool?
    ) throws(CheckpointError) -> Int4ModulationWeights {
        try files.modulation(layer, on: pool, .nunchakuLite)
    }

    /// Lets a layer's pages of the file leave this process's memory.
    public func release(_ layer: Int4Layer) throws(CheckpointError) { try files.release(layer, .nunchakuLite) }
}
