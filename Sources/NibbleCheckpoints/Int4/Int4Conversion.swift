internal import Foundation
internal import NibbleTensors

extension NunchakuCheckpoint {
    /// Writes the checkpoint as Nunchaku's single file, layer by layer; no more than one is in memory. Every number is
    /// looked at on the way.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - progress: called before each layer with bytes done and bytes in all; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func write(to path: String, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }) throws {
        var declarations: [TensorDeclaration] = []
        for name in tensorNames {
            let tensor = try tensor(name)
            declarations.append(TensorDeclaration(name: name, dtype: tensor.dtype, shape: tensor.shape))
        }
        let total = declarations.reduce(0) { $0 + $1.byteCount }
        let writer = try SafetensorsWriter(path, tensors: declarations, metadata: metadata)
        var done = 0
        for layer in layers {
            try progress(done, total)
            for (key, tensor) in try packed(layer) {
                try writer.write("\(layer.name).\(key)", tensor)
                done += tensor.bytes.count
            }
            try release(layer)
        }
        for name in plainTensors { try writer.write(name, tensor(name)) }
        try progress(total, total)
        try writer.finish()
    }

    private func packed(_ layer: Int4Layer) throws(CheckpointError) -> [String: Tensor] {
        switch layer.kind {
        case .w4a4: try weights(layer).packed()
        case .w4a16: try modulation(layer).packed()
        }
    }

    /// Lets a layer's pages of the file leave this process's memory.
    func release(_ layer: Int4Layer) throws(CheckpointError) {
        var tensors: [Tensor] = []
        for key in layer.tensors(rank: 0).keys { tensors.append(try tensor("\(layer.name).\(key)")) }
        MappedWeights(tensors).release()
    }
}

extension DequantizedFluxCheckpoint {
    /// Writes the model for diffusers, tensor by tensor; no more than one is in memory.
    ///
    /// - Parameters:
    ///   - path: a file if it ends in `.safetensors`, or else a folder, made where it is not there, that gets
    ///     `diffusion_pytorch_model.safetensors` and `config.json`.
    ///   - progress: called before each tensor with bytes done and bytes in all; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func write(to path: String, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }) throws {
        var declarations: [TensorDeclaration] = []
        for name in tensorNames { declarations.append(try declaration(name)) }
        let total = declarations.reduce(0) { $0 + $1.byteCount }
        try DiffusersFolder(path).write(declarations, config: Data(configuration.utf8)) { writer in
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
/// not there, with `diffusion_pytorch_model.safetensors` and `config.json`.
struct DiffusersFolder {
    private let path: String

    init(_ path: String) { self.path = path }

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
            isFile ? path : path.appendingPath("diffusion_pytorch_model.safetensors"), tensors: tensors,
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
