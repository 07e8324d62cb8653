internal import Foundation
internal import NibbleTensors

/// A Nunchaku checkpoint as diffusers' own loader takes it (`quant_method` "nunchaku_lite",
/// https://huggingface.co/docs/diffusers/main/quantization/nunchaku): every quantized layer stands where the model has a
/// linear layer, so q, k and v lie apart, modulations are in their original order, and no layer knows of a shift: inputs
/// behind a GELU are quantized with sign, like all others.
///
/// A single block's output is two layers in Nunchaku's engine and one here. Its inputs keep their own smoothing and
/// scales; the two low-rank pairs become one of the sum of their ranks. One rank is stated for the whole file, so the
/// pairs of all other layers are filled up with zeros.
struct NunchakuLite {
    private let source: NunchakuCheckpoint
    /// The quantized layers.
    let linears: [DiffusersLinear]
    /// The rank of every low-rank pair.
    let rank: Int

    /// - Parameter source: a checkpoint in bfloat16.
    init(_ source: NunchakuCheckpoint) {
        self.source = source
        linears = DiffusersLinear.all(of: source.layers)
        rank = linears.map { Self.rank(of: $0, in: source) }.max() ?? 0
    }

    private static func rank(of linear: DiffusersLinear, in source: NunchakuCheckpoint) -> Int {
        [linear.first, linear.second].reduce(0) { $0 + ($1.flatMap(source.rank) ?? 0) }
    }

    /// All tensors of the file.
    func declarations() throws(CheckpointError) -> [TensorDeclaration] {
        var list: [TensorDeclaration] = []
        for name in source.plainTensors {
            let tensor = try source.tensor(name)
            list.append(
                TensorDeclaration(name: DiffusersLinear.name(plain: name), dtype: tensor.dtype, shape: tensor.shape))
        }
        for linear in linears {
            let (outputs, inputs, groups) = (linear.outputs, linear.inputs, linear.inputs / Int4Weights.groupSize)
            let tensors: [(String, DType, Shape)] =
                switch linear.first.kind {
                case .w4a4:
                    [
                        ("qweight", .int8, [outputs, inputs / 2]), ("wscales", .bfloat16, [groups, outputs]),
                        ("smooth_factor", .bfloat16, [inputs]), ("proj_down", .bfloat16, [inputs, rank]),
                        ("proj_up", .bfloat16, [outputs, rank]), ("bias", .bfloat16, [outputs]),
                    ]
                case .w4a16:
                    [
                        ("qweight", .int32, [outputs / 4, inputs / 2]), ("wscales", .bfloat16, [groups, outputs]),
                        ("wzeros", .bfloat16, [groups, outputs]), ("bias", .bfloat16, [outputs]),
                    ]
                }
            list += tensors.map { TensorDeclaration(name: "\(linear.name).\($0)", dtype: $1, shape: $2) }
        }
        return list
    }

    /// A layer's tensors, by key.
    func tensors(_ linear: DiffusersLinear) throws(CheckpointError) -> [String: Tensor] {
        if case .w4a16 = linear.first.kind {
            let stored = try source.modulation(linear.first)
            let plain = Int4ModulationWeights(
                codes: stored.codes, scales: stored.scales, zeros: stored.zeros,
                bias: Self.rounded(stored.originalBias()), splits: 1)
            // No kernel reads the rows that the engine's files are filled up with, and this format has none.
            let groups = linear.inputs / Int4Weights.groupSize
            var tensors = plain.packed()
            for key in ["wscales", "wzeros"] { tensors[key] = tensors[key]?.rows(0..<groups) }
            return tensors
        }
        var parts = [(linear.first, try source.weights(linear.first, rows: linear.rows))]
        if let second = linear.second { parts.append((second, try source.weights(second))) }
        let packed = joined(parts, outputs: linear.outputs, inputs: linear.inputs).packed()
        let keys = [
            "qweight": "qweight", "wscales": "wscales", "smooth": "smooth_factor", "lora_down": "proj_down",
            "lora_up": "proj_up", "bias": "bias",
        ]
        return Dictionary(uniqueKeysWithValues: packed.compactMap { key, tensor in keys[key].map { ($0, tensor) } })
    }

    /// Layers whose outputs are added, as one.
    private func joined(_ parts: [(layer: Int4Layer, weights: Int4Weights)], outputs: Int, inputs: Int) -> Int4Weights {
        let joined = Int4Weights(
            codes: Tensor(zeros: [outputs, inputs], .int8),
            scales: Tensor(zeros: [outputs, inputs / Int4Weights.groupSize], .bfloat16),
            smooth: Tensor(zeros: [inputs], .bfloat16), originalSmooth: Tensor(zeros: [inputs], .bfloat16),
            down: Tensor(zeros: [rank, inputs], .bfloat16), up: Tensor(zeros: [outputs, rank], .bfloat16),
            bias: Self.rounded(
                parts.map { $0.weights.effectiveBias(shift: $0.layer.shift) }.reduce(
                    [Float](repeating: 0, count: outputs)
                ) { zip($0, $1).map { $0 + $1 } }))
        var (input, component) = (0, 0)
        for (_, weights) in parts {
            let channels = input..<input + weights.inputs
            let components = component..<component + weights.rank
            let groups = input / Int4Weights.groupSize..<channels.upperBound / Int4Weights.groupSize
            Self.copy(weights.codes, to: joined.codes.columns(channels))
            Self.copy(weights.scales, to: joined.scales.columns(groups))
            Self.copy(weights.smooth, to: joined.smooth.rows(channels))
            Self.copy(weights.originalSmooth, to: joined.originalSmooth.rows(channels))
            Self.copy(weights.down, to: joined.down.columns(channels).rows(components))
            Self.copy(weights.up, to: joined.up.columns(components))
            (input, component) = (channels.upperBound, components.upperBound)
        }
        return joined
    }

    /// Copies a tensor into a block of another.
    private static func copy(_ part: Tensor, to block: Tensor) {
        for row in 0..<part.rows {
            let bytes = part.rows(row..<row + 1).bytes
            block.rows(row..<row + 1).mutableAddress.copyMemory(
                from: bytes.baseAddress ?? part.address, byteCount: bytes.count)
        }
    }

    private static func rounded(_ values: [Float]) -> Tensor {
        let tensor = Tensor(zeros: [values.count], .bfloat16)
        let target = tensor.mutableAddress.assumingMemoryBound(to: BFloat16.self)
        for index in values.indices { target[index] = BFloat16(values[index]) }
        return tensor
    }

    /// The model's `config.json` with the description that diffusers loads by.
    func configuration() throws(CheckpointError) -> Data {
        func targets(_ isTarget: (Int4Layer.Kind) -> Bool) -> [String] {
            linears.filter { isTarget($0.first.kind) }.map(\.name)
        }
        let modulations = targets { if case .w4a16 = $0 { true } else { false } }
        let others = targets { if case .w4a4 = $0 { true } else { false } }
        let size = Int4Weights.groupSize
        do {
            let text = source.metadata["config"] ?? ""
            var object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
            object["quantization_config"] = [
                "quant_method": "nunchaku_lite", "compute_dtype": "bfloat16",
                "svdq_w4a4": ["precision": "int4", "group_size": size, "rank": rank, "targets": others],
                "awq_w4a16": ["precision": "int4", "group_size": size, "targets": modulations],
            ]
            return try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
        } catch {
            throw .malformed(path: source.location, reason: error.localizedDescription)
        }
    }
}

extension NunchakuCheckpoint {
    /// Writes the checkpoint for diffusers' own loader ("Nunchaku Lite"), layer by layer.
    ///
    /// - Parameters:
    ///   - folder: made where it is not there; gets `diffusion_pytorch_model.safetensors` and `config.json`.
    ///   - progress: called before each layer with layers done and layers in all; may throw to stop.
    /// - Throws: `CheckpointError.wrongType` for a checkpoint in float16; or what `progress` throws.
    public func writeLite(
        to folder: String, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws {
        for name in tensorNames.sorted() where try tensor(name).dtype == .float16 {
            throw CheckpointError.wrongType(path: location, name: name, found: "F16", expected: "BF16, as all of it")
        }
        let lite = NunchakuLite(self)
        try DiffusersFolder(folder).write(lite.declarations(), config: lite.configuration()) { writer in
            for name in plainTensors { try writer.write(DiffusersLinear.name(plain: name), tensor(name)) }
            for (index, linear) in lite.linears.enumerated() {
                try progress(index, lite.linears.count)
                for (key, tensor) in try lite.tensors(linear) { try writer.write("\(linear.name).\(key)", tensor) }
                try release(linear.first)
                if let second = linear.second { try release(second) }
            }
            try progress(lite.linears.count, lite.linears.count)
        }
    }
}
