internal import Foundation
public import NibbleTensors

extension Int4Checkpoint {
    /// Writes the checkpoint as Nunchaku's single file, layer by layer; no more than one is in memory. Every number is
    /// looked at on the way.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - pool: the threads that bring layers into order.
    ///   - progress: called before each layer with bytes done and bytes in all; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`: `.notConvertible` for a checkpoint of diffusers' structure; or what `progress` throws.
    public func writeNunchaku(
        to path: String, on pool: ThreadPool, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws {
        try refuseTextEncoder(.nunchaku)
        guard structure == .nunchaku else {
            throw CheckpointError.notConvertible(
                path: location, to: Int4Form.nunchaku.rawValue,
                reason:
                    "its layers are cut as diffusers' are: a single block's output is one layer, whose low-rank pair and "
                    + "bias cannot be parted into the two layers of Nunchaku's engine without loss")
        }
        try write(to: path, .nunchaku, metadata: metadata, progress: progress) { layer throws(CheckpointError) in
            switch layer.kind {
            case .w4a4, .w4a8: try nunchakuParts(layer, on: pool)
            case .w4a16: try modulation(layer, on: pool).packed(on: pool)
            }
        }
    }

    /// Throws where a form has no place for a text encoder.
    func refuseTextEncoder(_ form: Int4Form) throws(CheckpointError) {
        guard structure == .t5 else { return }
        throw .wrongFormat(
            path: location, found: "a T5 encoder in 4 bits",
            expected: "a transformer: '\(form.rawValue)' has no place for a text encoder; '--to dequantized' makes an "
                + "ordinary one")
    }

    /// A layer in Nunchaku's order.
    private func nunchakuParts(_ layer: Int4Layer, on pool: ThreadPool) throws(CheckpointError) -> [String: Tensor] {
        let tensors = layer.tensors(rank: rank(of: layer) ?? 0)
        let result = Dictionary(
            uniqueKeysWithValues: tensors.map { key, tensor in
                (key, Tensor(zeros: tensor.shape, key == "qweight" ? .int8 : dtype(of: key, in: layer)))
            })
        try forEachPiece(layer, on: pool) { rows, piece in
            for (key, part) in piece.packed() {
                guard let whole = result[key] else { continue }
                switch key {
                case "qweight", "lora_up", "bias": part.copy(to: whole.rows(rows))
                // Tiles of 128 outputs lie one behind the other, whatever the shape says.
                case "wscales":
                    let groups = part.shape[0]
                    part.reshaped([rows.count, groups]).copy(
                        to: whole.reshaped([layer.outputs, groups]).rows(rows))
                default: if rows.lowerBound == 0 { part.copy(to: whole) }
                }
            }
        }
        return result
    }

    /// Writes the checkpoint as a nibble file, layer by layer; no more than one is in memory. Every number is looked at on
    /// the way. Numbers that the kernels read in place are rounded to bfloat16 if they are of float16.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - pool: the threads that bring layers into order.
    ///   - progress: called before each layer with bytes done and bytes in all; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func writeNibble(
        to path: String, on pool: ThreadPool, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws {
        let strings = metadata.merging(["format": NibbleCheckpoint.format, "format_version": NibbleCheckpoint.version])
        {
            $1
        }
        try write(to: path, .nibble, metadata: strings, progress: progress) { layer throws(CheckpointError) in
            if isMapped { try verify(layer, on: pool) }
            return switch layer.kind {
            case .w4a4, .w4a8: try packed(layer, on: pool).parts
            case .w4a16: try packedModulation(layer, on: pool).parts
            }
        }
    }

    /// Writes a file of a form, layer by layer.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - form: of the file.
    ///   - metadata: its `__metadata__`.
    ///   - progress: as above.
    ///   - parts: a layer's tensors, by Nunchaku's keys.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    private func write(
        to path: String, _ form: Int4Form, metadata: [String: String],
        progress: (_ done: Int, _ total: Int) throws -> Void,
        parts: (Int4Layer) throws(CheckpointError) -> [String: Tensor]
    ) throws {
        let declarations = try declarations(form)
        let total = declarations.reduce(0) { $0 + $1.byteCount }
        let writer = try SafetensorsWriter(
            path, tensors: declarations, metadata: metadata,
            order: form == .nibble ? .asListed(alignment: KernelOrder.alignment) : .standard)
        var done = 0
        for layer in layers {
            try progress(done, total)
            // A layer without a bias or a pair has zeros there, which the file does not.
            let stored = layer.tensors(rank: rank(of: layer) ?? 0, form: form)
            for (key, tensor) in try parts(layer) where stored[form.key(key)] != nil {
                try writer.write("\(layer.name).\(form.key(key))", tensor)
                done += tensor.bytes.count
            }
            try release(layer)
        }
        for name in plainTensors { try writer.write(name, tensor(name)) }
        try progress(total, total)
        try writer.finish()
    }

    /// All tensors of a file of a form: what the kernels read in place first, block by block, then vectors, which are all
    /// read when the file is opened, then what is not quantized. Sizes that are no multiple of the alignment come last,
    /// those of larger elements first.
    private func declarations(_ form: Int4Form) throws(CheckpointError) -> [TensorDeclaration] {
        var (large, vectors): ([TensorDeclaration], [TensorDeclaration]) = ([], [])
        for layer in layers {
            for key in ["qweight", "wscales", "wzeros", "lora_down", "lora_up", "smooth", "smooth_orig", "bias"] {
                guard let tensor = layer.tensors(rank: rank(of: layer) ?? 0, form: form)[form.key(key)] else {
                    continue
                }
                let isVector = tensor.shape.rank == 1
                let isFixed = tensor.dtype != .bfloat16 || form == .nibble && !isVector
                let declaration = TensorDeclaration(
                    name: "\(layer.name).\(form.key(key))", dtype: isFixed ? tensor.dtype : dtype(of: key, in: layer),
                    shape: tensor.shape)
                if isVector { vectors.append(declaration) } else { large.append(declaration) }
            }
        }
        var plain: [TensorDeclaration] = []
        for name in plainTensors {
            let tensor = try tensor(name)
            plain.append(TensorDeclaration(name: name, dtype: tensor.dtype, shape: tensor.shape))
        }
        return NibbleCheckpoint.ordered(large + vectors, plain: plain)
    }
}

extension NibbleCheckpoint {
    /// Puts what is not quantized behind the layers: sizes that are no multiple of the alignment last, those of larger
    /// elements first.
    fileprivate static func ordered(
        _ layers: [TensorDeclaration], plain: [TensorDeclaration]
    ) -> [TensorDeclaration] {
        func isWhole(_ tensor: TensorDeclaration) -> Bool { tensor.byteCount.isMultiple(of: KernelOrder.alignment) }
        return layers + plain.filter(isWhole)
            + plain.filter { !isWhole($0) }.sorted { $0.dtype.byteSize > $1.dtype.byteSize }
    }

    /// Begins the file of a 4-bit T5 encoder.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - layers: the tensors of its layers, block by block; see `Int4Weights.kernelOrder`.
    ///   - plain: what is not quantized.
    ///   - configuration: the text of transformers' `config.json`.
    /// - Returns: a writer, for the caller to write the tensors with.
    /// - Throws: `CheckpointError`.
    public static func textEncoderWriter(
        _ path: String, layers: [TensorDeclaration], plain: [TensorDeclaration], configuration: String
    ) throws(CheckpointError) -> SafetensorsWriter {
        // Opening reads the vectors: they lie together.
        let ordered = ordered(
            layers.filter { $0.shape.rank > 1 } + layers.filter { $0.shape.rank == 1 }, plain: plain)
        return try SafetensorsWriter(
            path, tensors: ordered,
            metadata: [
                "format": format, "format_version": version,
                componentKey: ModelFolder.Component.textEncoder2.rawValue, "config": configuration,
            ], order: .asListed(alignment: KernelOrder.alignment))
    }
}

extension DequantizedFluxCheckpoint {
    /// Writes the model for diffusers, a text encoder for transformers, tensor by tensor; no more than one is in memory.
    ///
    /// - Parameters:
    ///   - path: a file if it ends in `.safetensors`, or else a folder, made where it is not there, that gets
    ///     `diffusion_pytorch_model.safetensors` or, for transformers, `model.safetensors`, and `config.json`.
    ///   - progress: called before each tensor with bytes done and bytes in all; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func write(to path: String, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }) throws {
        var declarations: [TensorDeclaration] = []
        for name in tensorNames { declarations.append(try declaration(name)) }
        let total = declarations.reduce(0) { $0 + $1.byteCount }
        let folder = DiffusersFolder(path, stem: isTextEncoder ? "model" : "diffusion_pytorch_model")
        try folder.write(declarations, config: Data(configuration.utf8)) { writer in
            var done = 0
            for declaration in writer.declarations {
                try progress(done, total)
                try writer.write(declaration.name, tensor(declaration.name))
                try release(declaration.name)
                done += declaration.byteCount
            }
            try progress(total, total)
        }
    }
}

/// Where a model for diffusers is written: a file if the path ends in `.safetensors`, or else a folder, made where it is
/// not there, with a file of weights and `config.json`.
struct DiffusersFolder {
    private let path: String
    private let stem: String

    /// - Parameters:
    ///   - path: the file or folder.
    ///   - stem: of the weights' name in a folder: transformers has another than diffusers.
    init(_ path: String, stem: String = "diffusion_pytorch_model") { (self.path, self.stem) = (path, stem) }

    /// Writes weights and configuration; the latter last, so that a folder with it is complete.
    ///
    /// - Parameters:
    ///   - tensors: what is going to be written.
    ///   - config: the text of `config.json`; not written beside a file.
    ///   - body: writes all tensors.
    /// - Throws: `CheckpointError`, or what the body throws.
    func write(
        _ tensors: [TensorDeclaration], config: Data, _ body: (SafetensorsWriter) throws -> Void
    ) throws {
        let isFile = path.hasSuffix(".safetensors")
        if !isFile {
            try accessing(path) {
                try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            }
        }
        // As PyTorch's writers say; some readers ask for it.
        let writer = try SafetensorsWriter(
            isFile ? path : path.appendingPath("\(stem).safetensors"), tensors: tensors,
            metadata: ["format": "pt"])
        try body(writer)
        try writer.finish()
        guard !isFile else { return }
        let configPath = path.appendingPath("config.json")
        try accessing(configPath) { try config.write(to: URL(filePath: configPath), options: .atomic) }
    }

    private func accessing(_ path: String, _ body: () throws -> Void) throws(CheckpointError) {
        do {
            try body()
        } catch {
            throw .inaccessible(path: path, reason: error.localizedDescription)
        }
    }
}
