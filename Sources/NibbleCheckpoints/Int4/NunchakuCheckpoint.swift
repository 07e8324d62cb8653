internal import Foundation
public import NibbleTensors

/// A FLUX.1 that SVDQuant made for Nunchaku's INT4 kernels: a single file with its configuration in the metadata, or the
/// older folder (`transformer_blocks.safetensors`, `unquantized_layers.safetensors`, `config.json`). As a source it has
/// the tensors as stored, under the names of Nunchaku's C++ engine, whichever names the file has.
public struct NunchakuCheckpoint: TensorSource {
    /// The file or folder.
    public let location: String
    /// The engine's names.
    public let tensorNames: Set<String>
    /// What a single file's `__metadata__` is: as read, or as Nunchaku's `merge_safetensors` makes it of a folder.
    public let metadata: [String: String]
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// Names of the tensors that are not quantized: embedders, norms, the ends.
    public let plainTensors: [String]

    let sizes: Int4FluxSizes
    private let files: NunchakuFiles

    /// Opens a checkpoint and compares every name, type and shape with what the configuration asks for. Numbers are
    /// looked at when a layer is read.
    ///
    /// - Parameter path: the file or the folder.
    /// - Throws: `CheckpointError`: `.wrongFormat` for something else than INT4 weights of Nunchaku, NVFP4 and LoRAs
    ///   among them.
    public init(_ path: String) throws(CheckpointError) {
        files = try NunchakuFiles(path)
        try Self.checkKind(files)
        let metadata =
            files.isFolder
            ? try NunchakuMetadata(legacyFolder: path, rank: try files.firstRank())
            : try NunchakuMetadata(files.metadata, path: path)
        location = path
        tensorNames = files.tensorNames
        self.metadata = metadata.strings
        sizes = metadata.sizes
        let schema = Int4FluxSchema(metadata.sizes)
        layers = schema.layers
        plainTensors = schema.plain.map(\.name)
        let checks = Int4ShapeCheck(files)
        var expected = Set(plainTensors)
        for layer in layers {
            let keys = try checks.check(layer, statedRank: metadata.rank)
            expected.formUnion(keys.map { "\(layer.name).\($0)" })
        }
        for (name, shape) in schema.plain { try checks.checkPlain(name, shape) }
        let left = tensorNames.subtracting(expected).sorted()
        guard left.isEmpty else { throw .unexpectedTensors(path: path, names: left) }
    }

    private static func checkKind(_ files: NunchakuFiles) throws(CheckpointError) {
        // Fused in every file of the engine.
        guard !files.tensorNames.contains(where: { $0.hasSuffix(".attn.to_q.qweight") }) else {
            throw .wrongFormat(
                path: files.location, found: "a Nunchaku Lite model, which only diffusers' own loader takes",
                expected: "the file of Nunchaku's engine that it was made from")
        }
        let kind = CheckpointKind(files, entries: files.entries, metadata: files.metadata)
        switch kind {
        case .svdQuant(.int4, _, _): return
        case .svdQuant(.nvfp4, _, _): throw floatFormat(files.location)
        case .lora:
            throw .wrongFormat(
                path: files.location, found: "a LoRA, an addition to a model and not a model",
                expected: "a Nunchaku INT4 transformer")
        default:
            throw .wrongFormat(
                path: files.location, found: kind == .unknown ? "of no known kind" : "\(kind)",
                expected: "a Nunchaku INT4 transformer")
        }
    }

    /// The refusal of NVFP4.
    static func floatFormat(_ path: String) -> CheckpointError {
        .wrongFormat(
            path: path, found: "in NVFP4 (4-bit floats, which NVIDIA's Blackwell processors compute with)",
            expected: "INT4; take the file of the same model that is named svdq-int4")
    }

    /// Whether a file or folder is meant to be one, of any number format; opening it may still find faults.
    ///
    /// - Parameter path: a file or folder.
    /// - Returns: whether its names or its metadata are SVDQuant's.
    public static func isOne(_ path: String) -> Bool {
        guard let files = try? NunchakuFiles(path) else { return false }
        if case .svdQuant = CheckpointKind(files, entries: files.entries, metadata: files.metadata) { return true }
        return false
    }

    /// The strings of a new single file's `__metadata__`.
    ///
    /// - Parameters:
    ///   - configuration: the text of the transformer's `config.json`.
    ///   - rank: of all low-rank pairs.
    /// - Returns: what Nunchaku's `merge_safetensors` would write.
    public static func metadata(configuration: String, rank: Int) -> [String: String] {
        NunchakuMetadata.strings(config: configuration, comfyConfig: "", rank: rank)
    }

    /// The transformer's configuration, as the metadata has it.
    ///
    /// - Parameter type: what to decode; keys that it does not name are ignored.
    /// - Returns: the configuration.
    /// - Throws: `CheckpointError.wrongConfiguration`.
    public func config<Configuration: Decodable>(
        as type: Configuration.Type
    ) throws(CheckpointError) -> Configuration {
        try decodeConfiguration(Data((metadata["config"] ?? "{}").utf8), path: location, as: type)
    }

    /// A tensor as stored.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor { try files.tensor(name) }
}

// MARK: - Layers

extension NunchakuCheckpoint {
    /// The rank of a layer's low-rank pair; nil for a modulation.
    public func rank(of layer: Int4Layer) -> Int? {
        guard case .w4a4 = layer.kind, let entry = files.entry("\(layer.name).lora_down") else { return nil }
        return entry.shape[1]
    }

    /// Reads a layer, and looks at every number that it computes with.
    ///
    /// - Parameters:
    ///   - layer: one of `layers`, of the kind W4A4.
    ///   - rows: which outputs, multiples of 128; nil: all.
    /// - Returns: copies in plain order.
    /// - Throws: `CheckpointError.malformedTensor` for a number that cannot be computed with.
    public func weights(_ layer: Int4Layer, rows: Range<Int>? = nil) throws(CheckpointError) -> Int4Weights {
        let rows = rows ?? 0..<layer.outputs
        let tile = NunchakuLayout.tileRows
        precondition(rows.lowerBound.isMultiple(of: tile) && rows.upperBound.isMultiple(of: tile))
        let weights = try Int4Weights { key throws(CheckpointError) in
            let whole = try tensor("\(layer.name).\(key)")
            switch key {
            // Tiles of 128 outputs lie one behind the other, whatever the shape says.
            case "wscales":
                return whole.reshaped([layer.outputs, layer.inputs / Int4Weights.groupSize]).rows(rows)
                    .reshaped([layer.inputs / Int4Weights.groupSize, rows.count])
            case "qweight", "lora_up", "bias": return whole.rows(rows)
            default: return whole
            }
        }
        if let fault = weights.fault() {
            throw .malformedTensor(path: location, name: "\(layer.name).\(fault.key)", reason: fault.reason)
        }
        return weights
    }

    /// Reads a modulation, and looks at every number that it computes with.
    ///
    /// - Parameter layer: one of `layers`, of the kind W4A16.
    /// - Returns: copies in plain and original order.
    /// - Throws: `CheckpointError.malformedTensor` for a number that cannot be computed with.
    public func modulation(_ layer: Int4Layer) throws(CheckpointError) -> Int4ModulationWeights {
        guard case .w4a16(let splits) = layer.kind else { preconditionFailure("'\(layer.name)' is no modulation") }
        let weights = try Int4ModulationWeights(splits: splits) { key throws(CheckpointError) in
            try tensor("\(layer.name).\(key)")
        }
        if let fault = weights.fault() {
            throw .malformedTensor(path: location, name: "\(layer.name).\(fault.key)", reason: fault.reason)
        }
        return weights
    }
}
