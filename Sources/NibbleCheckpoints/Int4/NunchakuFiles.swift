internal import Foundation
internal import NibbleTensors

/// The tensors of a Nunchaku single file or legacy folder under the names of its C++ engine, before anyone has looked
/// whether they are what a model needs.
struct NunchakuFiles: TensorSource {
    let location: String
    let tensorNames: Set<String>
    /// Whether it is a legacy folder.
    let isFolder: Bool
    /// The single file's `__metadata__`.
    let metadata: [String: String]
    /// What the headers say, under the files' own names.
    let entries: [TensorEntry]

    private let origins: [String: (file: SafetensorsFile, name: String)]

    /// The files of a legacy folder that hold tensors.
    private static let folderFiles = ["transformer_blocks.safetensors", "unquantized_layers.safetensors"]

    /// Opens a file or a folder.
    init(_ path: String) throws(CheckpointError) {
        guard path.isExistingFile else { throw .inaccessible(path: path, reason: "there is no such file or folder") }
        isFolder = path.isExistingFolder
        if isFolder, !Self.folderFiles.contains(where: { path.appendingPath($0).isExistingFile }) {
            throw .wrongFormat(
                path: path, found: "a folder without \(Self.folderFiles[0])",
                expected: "a Nunchaku INT4 transformer: a single file, or the older folder of that form")
        }
        var files: [SafetensorsFile] = []
        for file in isFolder ? Self.folderFiles.map(path.appendingPath) : [path] {
            guard file.isExistingFile else { throw .missingFile(path: file, neededBy: path) }
            files.append(try SafetensorsFile(file))
        }
        var origins: [String: (file: SafetensorsFile, name: String)] = [:]
        for file in files {
            for entry in file.entries {
                let earlier = origins.updateValue((file, entry.name), forKey: NunchakuNames.engineName(entry.name))
                guard let earlier else { continue }
                throw .malformedTensor(
                    path: file.location, name: entry.name,
                    reason: "it is there twice, also as '\(earlier.name)' in \(earlier.file.location)")
            }
        }
        location = path
        self.origins = origins
        tensorNames = Set(origins.keys)
        entries = files.flatMap(\.entries)
        metadata = isFolder ? [:] : files[0].metadata
    }

    func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        guard let origin = origins[name] else { throw .missingTensor(path: location, name: name) }
        return try origin.file.tensor(origin.name)
    }

    /// What the header says of a tensor; nil if there is none of that name.
    func entry(_ name: String) -> TensorEntry? { origins[name].flatMap { $0.file.entry($0.name) } }

    /// The rank of the first low-rank pair, from which Nunchaku takes the rank of a folder.
    func firstRank() throws(CheckpointError) -> Int {
        guard let name = tensorNames.filter({ $0.hasSuffix(".lora_down") }).min(), let shape = entry(name)?.shape else {
            throw .missingTensor(path: location, name: "transformer_blocks.0.qkv_proj.lora_down")
        }
        return shape.rank == 2 ? shape[1] : 0
    }
}

/// Compares types and shapes with what a model's sizes ask for.
struct Int4ShapeCheck {
    private let files: NunchakuFiles

    init(_ files: NunchakuFiles) { self.files = files }

    /// Checks the tensors of a quantized layer.
    ///
    /// - Parameters:
    ///   - layer: what the configuration asks for.
    ///   - statedRank: the rank that the metadata states.
    /// - Returns: the keys of the layer's tensors.
    /// - Throws: `CheckpointError`.
    func check(_ layer: Int4Layer, statedRank: Int?) throws(CheckpointError) -> [String] {
        let rank: Int
        switch layer.kind {
        case .w4a4:
            try checkTiles(layer)
            rank = try checkedRank(layer, stated: statedRank)
        case .w4a16: rank = 0
        }
        let tensors = layer.tensors(rank: rank).sorted { $0.key < $1.key }
        for (key, expected) in tensors {
            let entry = try entry("\(layer.name).\(key)")
            if key == "wscales", entry.shape != expected.shape { try checkGroups(layer, entry) }
            try compare(entry, expected.dtype, expected.shape)
        }
        return tensors.map(\.key)
    }

    /// Checks a tensor that is not quantized.
    func checkPlain(_ name: String, _ shape: Shape) throws(CheckpointError) {
        try compare(try entry(name), .bfloat16, shape)
    }

    private func entry(_ name: String) throws(CheckpointError) -> TensorEntry {
        guard let entry = files.entry(name) else { throw .missingTensor(path: files.location, name: name) }
        return entry
    }

    /// 16-bit numbers may be of either type: Nunchaku's engine converts between them too.
    private func compare(_ entry: TensorEntry, _ dtype: DType, _ shape: Shape) throws(CheckpointError) {
        guard entry.dtype == dtype || dtype == .bfloat16 && entry.dtype == .float16 else {
            throw .wrongType(
                path: files.location, name: entry.name, found: entry.dtype.rawValue,
                expected: dtype == .bfloat16 ? "BF16 or F16" : dtype.rawValue)
        }
        guard entry.shape == shape else {
            throw .wrongShape(path: files.location, name: entry.name, found: entry.shape, expected: shape)
        }
    }

    private func refusal(_ entry: TensorEntry, _ reason: String) -> CheckpointError {
        .malformedTensor(path: files.location, name: entry.name, reason: reason)
    }

    private func checkTiles(_ layer: Int4Layer) throws(CheckpointError) {
        let codes = try entry("\(layer.name).qweight")
        let tile = NunchakuLayout.tileRows
        guard codes.shape.rank == 2, codes.shape[0] > 0, codes.shape[1] > 0, codes.shape[0].isMultiple(of: tile),
            codes.shape[1].isMultiple(of: tile / 2)
        else {
            throw refusal(
                codes, "its shape is \(codes.shape); expected [outputs, inputs / 2], both multiples of \(tile)")
        }
        guard layer.outputs.isMultiple(of: tile), layer.inputs.isMultiple(of: tile) else {
            throw refusal(
                codes,
                "the configuration asks for \(layer.inputs) inputs and \(layer.outputs) outputs; "
                    + "Nunchaku's layers have multiples of \(tile)")
        }
    }

    private func checkedRank(_ layer: Int4Layer, stated: Int?) throws(CheckpointError) -> Int {
        let down = try entry("\(layer.name).lora_down")
        let rank = down.shape.rank == 2 ? down.shape[1] : 0
        guard Int4Weights.ranks.contains(rank) else {
            throw refusal(
                down, "its shape is \(down.shape): a rank of \(rank); expected a multiple of 16, at most 1024")
        }
        if let stated, stated != rank {
            throw .wrongConfiguration(
                path: files.location, key: "__metadata__.quantization_config.rank", found: "\(stated)",
                expected: "\(rank), as tensor '\(down.name)' has")
        }
        return rank
    }

    private func checkGroups(_ layer: Int4Layer, _ scales: TensorEntry) throws(CheckpointError) {
        guard case .w4a4 = layer.kind, scales.shape.rank == 2, scales.shape[1] == layer.outputs, scales.shape[0] > 0,
            layer.inputs.isMultiple(of: scales.shape[0])
        else { return }
        let size = layer.inputs / scales.shape[0]
        throw refusal(scales, "its groups are of \(size) inputs; expected groups of \(Int4Weights.groupSize)")
    }
}
