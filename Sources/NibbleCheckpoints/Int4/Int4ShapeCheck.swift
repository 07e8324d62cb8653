internal import NibbleTensors

/// Compares names, types and shapes with what a model's sizes ask for.
struct Int4ShapeCheck {
    let files: Int4Files
    let form: Int4Form

    /// Checks all tensors of a model.
    ///
    /// - Parameters:
    ///   - layers: what the configuration asks for in 4 bits.
    ///   - plain: what it asks for besides.
    ///   - statedRank: the rank that the metadata states.
    /// - Throws: `CheckpointError`; `.unexpectedTensors` for what is left over.
    func check(
        _ layers: [Int4Layer], plain: [(name: String, shape: Shape)], statedRank: Int?
    ) throws(CheckpointError) {
        var expected = Set(plain.map(\.name))
        for layer in layers {
            let keys = try check(layer, statedRank: statedRank)
            expected.formUnion(keys.map { "\(layer.name).\($0)" })
        }
        for (name, shape) in plain { try compare(try entry(name), .bfloat16, shape) }
        let left = files.tensorNames.subtracting(expected).sorted()
        guard left.isEmpty else { throw .unexpectedTensors(path: files.location, names: left) }
    }

    /// Checks the tensors of a quantized layer; returns their keys.
    private func check(_ layer: Int4Layer, statedRank: Int?) throws(CheckpointError) -> [String] {
        var rank = 0
        let codes = try entry("\(layer.name).\(form.key("qweight"))")
        switch layer.kind {
        case .w4a4:
            if form != .nibble { try checkTiles(codes) }
            try checkSizes(layer, codes, multiple: NunchakuLayout.tileRows)
            rank = try checkedRank(layer, stated: statedRank)
        case .w4a16: try checkSizes(layer, codes, multiple: ModulationLayout.groupSize)
        // Only layers of sizes that fit are asked for.
        case .w4a8:
            let pair = ["lora_down", "lora_up"].map { "\(layer.name).\(form.key($0))" }
            rank = pair.contains { files.entry($0) != nil } ? try checkedRank(layer, stated: statedRank) : 0
        }
        let tensors = layer.tensors(rank: rank, form: form).sorted { $0.key < $1.key }
        for (key, expected) in tensors {
            let entry = try entry("\(layer.name).\(key)")
            if key == "wscales", entry.shape != expected.shape { try checkGroups(layer, entry) }
            try compare(entry, expected.dtype, expected.shape, isExact: isReadInPlace(key))
            if form == .nibble { try checkAlignment(entry) }
        }
        return tensors.map(\.key)
    }

    private func entry(_ name: String) throws(CheckpointError) -> TensorEntry {
        guard let entry = files.entry(name) else { throw .missingTensor(path: files.location, name: name) }
        return entry
    }

    /// Whether the kernels read a part as it lies in the file; they know bfloat16 alone.
    private func isReadInPlace(_ key: String) -> Bool {
        form == .nibble && ["scales", "zeros", "down", "up"].contains(key)
    }

    /// 16-bit numbers may be of either type, as Nunchaku's engine converts between them too.
    private func compare(
        _ entry: TensorEntry, _ dtype: DType, _ shape: Shape, isExact: Bool = false
    ) throws(CheckpointError) {
        let mayBeFloat16 = dtype == .bfloat16 && !isExact
        guard entry.dtype == dtype || mayBeFloat16 && entry.dtype == .float16 else {
            throw .wrongType(
                path: files.location, name: entry.name, found: entry.dtype.rawValue,
                expected: mayBeFloat16 ? "BF16 or F16" : dtype.rawValue)
        }
        guard entry.shape == shape else {
            throw .wrongShape(path: files.location, name: entry.name, found: entry.shape, expected: shape)
        }
    }

    private func checkAlignment(_ entry: TensorEntry) throws(CheckpointError) {
        let start = entry.byteRange.lowerBound
        guard start.isMultiple(of: KernelOrder.alignment) else {
            throw refusal(
                entry,
                "its data begins at byte \(start); expected a multiple of \(KernelOrder.alignment), which the kernels "
                    + "read in place; write the file again with 'nibble convert --to nibble'")
        }
    }

    private func refusal(_ entry: TensorEntry, _ reason: String) -> CheckpointError {
        .malformedTensor(path: files.location, name: entry.name, reason: reason)
    }

    private func checkTiles(_ codes: TensorEntry) throws(CheckpointError) {
        let tile = NunchakuLayout.tileRows
        guard codes.shape.rank == 2, codes.shape[0] > 0, codes.shape[1] > 0, codes.shape[0].isMultiple(of: tile),
            codes.shape[1].isMultiple(of: tile / 2)
        else {
            throw refusal(
                codes, "its shape is \(codes.shape); expected [outputs, inputs / 2], both multiples of \(tile)")
        }
    }

    private func checkSizes(_ layer: Int4Layer, _ codes: TensorEntry, multiple: Int) throws(CheckpointError) {
        guard layer.outputs.isMultiple(of: multiple), layer.inputs.isMultiple(of: multiple) else {
            throw refusal(
                codes,
                "the configuration asks for \(layer.inputs) inputs and \(layer.outputs) outputs; "
                    + "such layers have multiples of \(multiple)")
        }
    }

    private func checkedRank(_ layer: Int4Layer, stated: Int?) throws(CheckpointError) -> Int {
        let down = try entry("\(layer.name).\(form.key("lora_down"))")
        let rank = down.shape.rank == (form == .nibble ? 3 : 2) ? down.shape[1] : 0
        guard Int4Weights.ranks.contains(rank) else {
            throw refusal(
                down, "its shape is \(down.shape): a rank of \(rank); expected a multiple of 16, at most 1024")
        }
        if let stated, stated != rank {
            throw .wrongConfiguration(
                path: files.location, key: "quantization_config.rank", found: "\(stated)",
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
