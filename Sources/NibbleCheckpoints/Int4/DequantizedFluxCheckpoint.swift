public import NibbleTensors

/// A 4-bit transformer or text encoder presented as an ordinary one: diffusers' or transformers' names and shapes, the effective weights (see `Int4Weights`),
/// computed anew at each call. Activations are then not quantized; fused layers lie apart, the two halves of a single
/// block's output beside each other, modulations in their original order and without the 1 in the bias.
public struct DequantizedFluxCheckpoint: TensorSource {
    /// The 4-bit file or folder.
    public let location: String
    /// Diffusers' names.
    public let tensorNames: Set<String>

    private let source: any Int4Checkpoint
    private let parts: [String: Part]
    private let dtype: DType
    private let pool: ThreadPool

    /// Where a tensor comes from.
    private enum Part {
        /// The tensor of that name, as it is.
        case plain(String)
        /// Some outputs of a layer.
        case layer(Int4Layer, rows: Range<Int>, Quantity)
        /// Two layers whose outputs are added: their weights stand side by side.
        case sum(Int4Layer, Int4Layer, Quantity)
    }

    private enum Quantity: String, CaseIterable {
        case weight
        case bias
    }

    /// Presents a 4-bit checkpoint.
    ///
    /// - Parameters:
    ///   - source: the checkpoint.
    ///   - dtype: the type of what is computed, F32 or BF16; tensors that are not quantized keep theirs.
    ///   - pool: the threads that compute.
    public init(_ source: any Int4Checkpoint, dtype: DType = .bfloat16, on pool: ThreadPool) {
        precondition(dtype == .float32 || dtype == .bfloat16)
        location = source.location
        self.source = source
        self.dtype = dtype
        self.pool = pool
        parts = Self.parts(of: source)
        tensorNames = Set(parts.keys)
    }

    private static func parts(of source: any Int4Checkpoint) -> [String: Part] {
        var parts: [String: Part] = [:]
        for name in source.plainTensors {
            parts[DiffusersLinear.name(plain: name, of: source.structure)] = .plain(name)
        }
        for linear in DiffusersLinear.all(of: source) {
            // T5 has no biases.
            for quantity in linear.first.kind == .w4a8 ? [.weight] : Quantity.allCases {
                parts["\(linear.name).\(quantity.rawValue)"] =
                    linear.second.map { .sum(linear.first, $0, quantity) }
                    ?? .layer(linear.first, rows: linear.rows, quantity)
            }
        }
        return parts
    }
}

// MARK: - Tensors

extension DequantizedFluxCheckpoint {
    /// The type and the extents of a tensor, without computing it.
    ///
    /// - Parameter name: one of `tensorNames`.
    /// - Returns: what `tensor(_:)` will give.
    /// - Throws: `CheckpointError.missingTensor`.
    public func declaration(_ name: String) throws(CheckpointError) -> TensorDeclaration {
        switch try part(name) {
        case .plain(let stored):
            let tensor = try source.tensor(stored)
            return TensorDeclaration(name: name, dtype: tensor.dtype, shape: tensor.shape)
        case .layer(let layer, let rows, let quantity):
            let shape: Shape = quantity == .bias ? [rows.count] : [rows.count, layer.inputs]
            return TensorDeclaration(name: name, dtype: dtype, shape: shape)
        case .sum(let first, let second, let quantity):
            let shape: Shape =
                quantity == .bias ? [first.outputs] : [first.outputs, first.inputs + second.inputs]
            return TensorDeclaration(name: name, dtype: dtype, shape: shape)
        }
    }

    /// A tensor by diffusers' name.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        if case .plain(let stored) = try part(name) { return try source.tensor(stored) }
        let declaration = try declaration(name)
        let target = Tensor(zeros: declaration.shape, dtype)
        switch try part(name) {
        case .plain: break
        case .layer(let layer, let rows, .weight): try writeWeight(layer, rows, into: target)
        case .layer(let layer, let rows, .bias): store(try bias(layer, rows), in: target)
        case .sum(let first, let second, .weight):
            try writeWeight(first, 0..<first.outputs, into: target.columns(0..<first.inputs))
            try writeWeight(second, 0..<second.outputs, into: target.columns(first.inputs..<target.width))
        case .sum(let first, let second, .bias):
            let biases = zip(try bias(first, 0..<first.outputs), try bias(second, 0..<second.outputs))
            store(biases.map { $0 + $1 }, in: target)
        }
        return target
    }

    /// Whether it is transformers' and not diffusers'.
    var isTextEncoder: Bool { source.structure == .t5 }

    /// The text of `config.json`.
    var configuration: String { source.metadata["config"] ?? "" }

    /// Lets the pages of what a tensor is made of leave this process's memory.
    func release(_ name: String) throws(CheckpointError) {
        switch try part(name) {
        case .plain: break
        case .layer(let layer, _, _): try source.release(layer)
        case .sum(let first, let second, _):
            try source.release(first)
            try source.release(second)
        }
    }

    private func part(_ name: String) throws(CheckpointError) -> Part {
        guard let part = parts[name] else { throw .missingTensor(path: location, name: name) }
        return part
    }

    private func writeWeight(_ layer: Int4Layer, _ rows: Range<Int>, into target: Tensor) throws(CheckpointError) {
        switch layer.kind {
        case .w4a4, .w4a8: try source.weights(layer, rows: rows).writeEffectiveWeight(into: target, on: pool)
        case .w4a16: try source.modulation(layer, on: pool).writeEffectiveWeight(into: target, on: pool)
        }
    }

    private func bias(_ layer: Int4Layer, _ rows: Range<Int>) throws(CheckpointError) -> [Float] {
        switch layer.kind {
        case .w4a4, .w4a8: try source.weights(layer, rows: rows).effectiveBias(shift: layer.shift)
        case .w4a16: try source.modulation(layer).originalBias()
        }
    }

    private func store(_ values: [Float], in target: Tensor) {
        var values = values
        values.withUnsafeMutableBufferPointer { EffectiveRows.store($0, in: target.reshaped([1, target.rows])) }
    }
}
