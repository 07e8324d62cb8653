internal import Foundation
internal import NibbleTensors

/// The tensors of a file or folder that may be a 4-bit transformer, before anyone has looked whether they are what a
/// model needs.
struct Int4Files: TensorSource {
    let location: String
    /// Those of Nunchaku under the names of its C++ engine, others under their own.
    let tensorNames: Set<String>
    /// What it looks like; nil: no 4-bit transformer.
    let form: Int4Form?
    /// What the names say it is.
    let kind: CheckpointKind
    /// Whether it is Nunchaku's older folder.
    let isLegacyFolder: Bool
    /// The files' `__metadata__`.
    let metadata: [String: String]

    private let origins: [String: (file: SafetensorsFile, name: String)]

    /// The files of a legacy folder that hold tensors.
    private static let legacyFiles = ["transformer_blocks.safetensors", "unquantized_layers.safetensors"]

    /// Opens a file, a legacy folder, or the weights in a component's folder.
    init(_ path: String) throws(CheckpointError) {
        guard path.isExistingFile else { throw .inaccessible(path: path, reason: "there is no such file or folder") }
        isLegacyFolder =
            path.isExistingFolder && Self.legacyFiles.contains { path.appendingPath($0).isExistingFile }
        let files = try isLegacyFolder ? Self.legacy(path) : Self.weights(path)
        location = path
        metadata = files.reduce(into: [:]) { $0.merge($1.metadata) { first, _ in first } }
        let kind = CheckpointKind(
            RawFiles(files: files, location: path), entries: files.flatMap(\.entries), metadata: metadata)
        let form = isLegacyFolder ? .nunchaku : Self.form(kind, at: path)
        self.kind = kind
        self.form = form
        var origins: [String: (file: SafetensorsFile, name: String)] = [:]
        for file in files {
            for entry in file.entries {
                let name = form == .nunchaku ? NunchakuNames.engineName(entry.name) : entry.name
                let earlier = origins.updateValue((file, entry.name), forKey: name)
                guard let earlier else { continue }
                throw .malformedTensor(
                    path: file.location, name: entry.name,
                    reason: "it is there twice, also as '\(earlier.name)' in \(earlier.file.location)")
            }
        }
        self.origins = origins
        tensorNames = Set(origins.keys)
    }

    private static func legacy(_ folder: String) throws(CheckpointError) -> [SafetensorsFile] {
        var files: [SafetensorsFile] = []
        for file in legacyFiles.map(folder.appendingPath) {
            guard file.isExistingFile else { throw .missingFile(path: file, neededBy: folder) }
            files.append(try SafetensorsFile(file))
        }
        return files
    }

    private static func weights(_ path: String) throws(CheckpointError) -> [SafetensorsFile] {
        let file: String
        do throws(CheckpointError) {
            file = try Checkpoint.weightsFile(at: path)
        } catch .malformed(_, let reason) {
            throw .wrongFormat(
                path: path, found: "no folder of a 4-bit transformer: there is no \(legacyFiles[0]), and \(reason)",
                expected: "a single file, a folder that diffusers reads, or Nunchaku's older folder")
        }
        return file.hasSuffix(".json") ? try ShardedCheckpoint(index: file).shards : [try SafetensorsFile(file)]
    }

    private static func form(_ kind: CheckpointKind, at path: String) -> Int4Form? {
        switch kind {
        case .nibble, .nibbleT5: .nibble
        case .nunchakuLite: .nunchakuLite
        // Where q, k and v are not quantized, names do not tell them apart.
        case .svdQuant(_, _, nil) where NunchakuLiteCheckpoint.isDescribed(beside: path): .nunchakuLite
        case .svdQuant: .nunchaku
        default: nil
        }
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

    /// The tensors under the files' own names, to recognize what they are by.
    private struct RawFiles: TensorSource {
        let files: [SafetensorsFile]
        let location: String
        var tensorNames: Set<String> { Set(files.flatMap(\.tensorNames)) }
        func tensor(_ name: String) throws(CheckpointError) -> Tensor {
            guard let file = files.first(where: { $0.entry(name) != nil }) else {
                throw .missingTensor(path: location, name: name)
            }
            return try file.tensor(name)
        }
    }
}

// MARK: - Layers

extension Int4Files {
    /// A part of a layer as stored, by Nunchaku's key.
    func part(_ key: String, of layer: Int4Layer, _ form: Int4Form) throws(CheckpointError) -> Tensor {
        try tensor("\(layer.name).\(form.key(key))")
    }

    /// The type of a part of a layer, by Nunchaku's key.
    func dtype(of key: String, in layer: Int4Layer, _ form: Int4Form) -> DType {
        entry("\(layer.name).\(form.key(key))")?.dtype ?? .bfloat16
    }

    /// The rank of a layer's low-rank pair; nil for a modulation and for a layer without one.
    func rank(of layer: Int4Layer, _ form: Int4Form) -> Int? {
        entry("\(layer.name).\(form.key("lora_down"))")?.shape[1]
    }

    /// Lets a layer's pages leave this process's memory.
    func release(_ layer: Int4Layer, _ form: Int4Form) throws(CheckpointError) {
        var tensors: [Tensor] = []
        let keys = layer.tensors(rank: rank(of: layer, form) ?? 0, form: form).keys
        for key in keys { tensors.append(try tensor("\(layer.name).\(key)")) }
        MappedWeights(tensors).release()
    }

    /// Reads a layer from Nunchaku's order.
    func weights(
        _ layer: Int4Layer, rows: Range<Int>?, _ form: Int4Form
    ) throws(CheckpointError) -> Int4Weights {
        let rows = rows ?? 0..<layer.outputs
        let weights = try Int4Weights(rows: rows) { key throws(CheckpointError) in try part(key, of: layer, form) }
        try check(weights.fault(firstRow: rows.lowerBound), layer, form)
        return weights
    }

    /// Reads a modulation from Nunchaku's order.
    func modulation(
        _ layer: Int4Layer, on pool: ThreadPool?, _ form: Int4Form
    ) throws(CheckpointError) -> Int4ModulationWeights {
        guard case .w4a16(let splits) = layer.kind else { preconditionFailure("'\(layer.name)' is no modulation") }
        let weights = try Int4ModulationWeights(splits: splits, on: pool) { key throws(CheckpointError) in
            try part(key, of: layer, form)
        }
        try check(weights.fault(), layer, form)
        return weights
    }

    /// Throws what is wrong with a layer's numbers.
    func check(_ fault: Int4Fault?, _ layer: Int4Layer, _ form: Int4Form) throws(CheckpointError) {
        guard let fault else { return }
        throw .malformedTensor(path: location, name: "\(layer.name).\(form.key(fault.key))", reason: fault.reason)
    }
}
