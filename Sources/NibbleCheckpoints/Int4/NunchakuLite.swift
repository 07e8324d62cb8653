internal import Foundation
public import NibbleTensors

/// A 4-bit checkpoint as diffusers' own loader takes it (`quant_method` "nunchaku_lite",
/// https://huggingface.co/docs/diffusers/main/quantization/nunchaku): every quantized layer stands where the model has a
/// linear layer, so q, k and v lie apart, modulations are in their original order, and no layer knows of a shift: inputs
/// behind a GELU are quantized with sign, like all others.
///
/// A single block's output is two layers in Nunchaku's engine and one here. Its inputs keep their own smoothing and
/// scales; the two low-rank pairs become one of the sum of their ranks. One rank is stated for the whole file, so the
/// pairs of all other layers are filled up with zeros. Everything that is quantized is in bfloat16.
struct NunchakuLite {
    private let source: any Int4Checkpoint
    private let pool: ThreadPool
    /// The quantized layers.
    let linears: [DiffusersLinear]
    /// The rank of every low-rank pair.
    let rank: Int

    init(_ source: any Int4Checkpoint, on pool: ThreadPool) {
        self.source = source
        self.pool = pool
        linears = DiffusersLinear.all(of: source)
        rank = linears.map { Self.rank(of: $0, in: source) }.max() ?? 0
    }

    private static func rank(of linear: DiffusersLinear, in source: any Int4Checkpoint) -> Int {
        [linear.first, linear.second].reduce(0) { $0 + ($1.flatMap(source.rank) ?? 0) }
    }

    /// All tensors of the file.
    func declarations() throws(CheckpointError) -> [TensorDeclaration] {
        var list: [TensorDeclaration] = []
        for name in source.plainTensors {
            let tensor = try source.tensor(name)
            list.append(
                TensorDeclaration(
                    name: DiffusersLinear.name(plain: name, of: source.structure), dtype: tensor.dtype,
                    shape: tensor.shape))
        }
        for linear in linears {
            let layer = Int4Layer(
                name: linear.name, kind: linear.first.kind, outputs: linear.outputs, inputs: linear.inputs)
            list += layer.tensors(rank: rank, form: .nunchakuLite).map {
                TensorDeclaration(name: "\(linear.name).\($0.key)", dtype: $0.value.dtype, shape: $0.value.shape)
            }
        }
        return list
    }

    /// A layer's tensors, by key.
    func tensors(_ linear: DiffusersLinear) throws(CheckpointError) -> [String: Tensor] {
        if case .w4a16 = linear.first.kind {
            let stored = try source.modulation(linear.first, on: pool)
            let plain = Int4ModulationWeights(
                codes: stored.codes, scales: stored.scales.inBFloat16, zeros: stored.zeros.inBFloat16,
                bias: Tensor(stored.originalBias(), shape: stored.bias.shape).inBFloat16, splits: 1)
            // No kernel reads the rows that the engine's files are filled up with, and this format has none.
            let groups = linear.inputs / Int4Weights.groupSize
            var tensors = plain.packed(on: pool)
            for key in ["wscales", "wzeros"] { tensors[key] = tensors[key]?.rows(0..<groups) }
            return tensors
        }
        var parts = [(linear.first, try source.weights(linear.first, rows: linear.rows))]
        if let second = linear.second { parts.append((second, try source.weights(second))) }
        let packed = joined(parts, outputs: linear.outputs, inputs: linear.inputs).packed()
        return Dictionary(
            uniqueKeysWithValues: packed.filter { $0.key != "smooth_orig" }.map {
                (Int4Form.nunchakuLite.key($0.key), $0.value)
            })
    }

    /// Layers whose outputs are added, as one.
    private func joined(_ parts: [(layer: Int4Layer, weights: Int4Weights)], outputs: Int, inputs: Int) -> Int4Weights {
        let joined = Int4Weights(
            codes: Tensor(zeros: [outputs, inputs], .int8),
            scales: Tensor(zeros: [outputs, inputs / Int4Weights.groupSize], .bfloat16),
            smooth: Tensor(zeros: [inputs], .bfloat16), originalSmooth: Tensor(zeros: [inputs], .bfloat16),
            down: Tensor(zeros: [rank, inputs], .bfloat16), up: Tensor(zeros: [outputs, rank], .bfloat16),
            bias: Tensor(
                parts.map { $0.weights.effectiveBias(shift: $0.layer.shift) }.reduce(
                    [Float](repeating: 0, count: outputs)
                ) { zip($0, $1).map { $0 + $1 } }, shape: [outputs]
            ).inBFloat16)
        var (input, component) = (0, 0)
        for (_, weights) in parts {
            let channels = input..<input + weights.inputs
            let components = component..<component + weights.rank
            let groups = input / Int4Weights.groupSize..<channels.upperBound / Int4Weights.groupSize
            weights.codes.copy(to: joined.codes.columns(channels))
            weights.scales.inBFloat16.copy(to: joined.scales.columns(groups))
            weights.smooth.inBFloat16.copy(to: joined.smooth.rows(channels))
            weights.originalSmooth.inBFloat16.copy(to: joined.originalSmooth.rows(channels))
            weights.down.inBFloat16.copy(to: joined.down.columns(channels).rows(components))
            weights.up.inBFloat16.copy(to: joined.up.columns(components))
            (input, component) = (channels.upperBound, components.upperBound)
        }
        return joined
    }

    /// The model's `config.json` with the description that diffusers loads by.
    func configuration() throws(CheckpointError) -> Data {
        func targets(_ isTarget: (Int4Layer.Kind) -> Bool) -> [String] {
            linears.filter { isTarget($0.first.kind) }.map(\.name).sorted()
        }
        let modulations = targets { if case .w4a16 = $0 { true } else { false } }
        let others = targets { if case .w4a4 = $0 { true } else { false } }
        let size = Int4Weights.groupSize
        do {
            let text = source.metadata["config"] ?? ""
            var object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
            var description: [String: Any] = [
                "quant_method": LiteQuantization.method, "compute_dtype": "bfloat16",
            ]
            if !others.isEmpty {
                description["svdq_w4a4"] = ["precision": "int4", "group_size": size, "rank": rank, "targets": others]
            }
            if !modulations.isEmpty {
                description["awq_w4a16"] = ["precision": "int4", "group_size": size, "targets": modulations]
            }
            object["quantization_config"] = description
            return try JSONSerialization.data(
                withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
        } catch {
            throw .malformed(path: source.location, reason: error.localizedDescription)
        }
    }
}

extension Int4Checkpoint {
    /// Writes the checkpoint for diffusers' own loader ("Nunchaku Lite"), layer by layer.
    ///
    /// - Parameters:
    ///   - folder: made where it is not there; gets `diffusion_pytorch_model.safetensors` and `config.json`.
    ///   - pool: the threads that bring layers into order.
    ///   - progress: called before each layer with bytes done and bytes in all; may throw to stop, and nothing is left.
    /// - Throws: `CheckpointError`, or what `progress` throws.
    public func writeLite(
        to folder: String, on pool: ThreadPool, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws {
        try refuseTextEncoder(.nunchakuLite)
        let lite = NunchakuLite(self, on: pool)
        let declarations = try lite.declarations()
        let total = declarations.reduce(0) { $0 + $1.byteCount }
        try DiffusersFolder(folder).write(declarations, config: lite.configuration()) { writer in
            var done = 0
            func write(_ name: String, _ tensor: Tensor) throws {
                try writer.write(name, tensor)
                done += tensor.bytes.count
            }
            for name in plainTensors {
                try write(DiffusersLinear.name(plain: name, of: structure), tensor(name))
            }
            for linear in lite.linears {
                try progress(done, total)
                for (key, tensor) in try lite.tensors(linear) { try write("\(linear.name).\(key)", tensor) }
                try release(linear.first)
                if let second = linear.second { try release(second) }
            }
            try progress(total, total)
        }
    }
}
