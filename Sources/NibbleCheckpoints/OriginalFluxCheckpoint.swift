public import NibbleTensors

/// A FLUX.1 transformer in the original names, presented under those of diffusers. Fused matrices become views of their
/// rows; only the last modulation, whose halves change places, is copied.
public struct OriginalFluxCheckpoint: TensorSource {
    /// The file.
    public let location: String
    /// The names that diffusers uses, and those of tensors that the original does not have, unchanged.
    public let tensorNames: Set<String>

    private let source: any TensorSource
    private let prefix: String
    private let origins: [String: FluxNameMap.Origin]

    /// Presents a source under diffusers' names; nil where its own names are not the original ones.
    ///
    /// - Parameter source: tensors in the original names, with or without the prefix `model.diffusion_model.`. With it,
    ///   everything outside is another part of the pipeline and left out.
    public init?(_ source: any TensorSource) {
        guard let prefix = FluxNameMap.prefix(of: source.tensorNames) else { return nil }
        var origins: [String: FluxNameMap.Origin] = [:]
        for full in source.tensorNames where full.hasPrefix(prefix) {
            let name = String(full.dropFirst(prefix.count))
            let known = FluxNameMap.diffusersNames(for: name, prefix: prefix)
            for (name, origin) in known { origins[name] = origin }
            if known.isEmpty { origins[name] = FluxNameMap.Origin(name: full, rows: .all) }
        }
        location = source.location
        tensorNames = Set(origins.keys)
        self.source = source
        self.prefix = prefix
        self.origins = origins
    }

    /// A tensor by diffusers' name.
    public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
        guard let origin = origins[name] else { throw .missingTensor(path: location, name: name) }
        let whole = try source.tensor(origin.name)
        switch origin.rows {
        case .all: return whole
        case .part(let index, let count): return try part(index, of: count, whole, origin.name)
        case .swappedHalves: return try swapHalves(whole, origin.name)
        }
    }

    /// Parts of `hidden` rows each; the fourth of `linear1` has the rest, the three of `qkv` leave none.
    private func part(_ index: Int, of count: Int, _ whole: Tensor, _ name: String) throws(CheckpointError) -> Tensor {
        let input = try source.tensor(prefix + FluxNameMap.inputLayer)
        // A shape without elements may claim any number of rows; no row count of a real file is near this.
        guard input.shape.rank == 2, (1..<1 << 32).contains(input.rows) else {
            throw .malformedTensor(path: location, name: prefix + FluxNameMap.inputLayer, reason: "it is no matrix")
        }
        let hidden = input.rows
        let isWhole = count == 3 ? whole.rows == 3 * hidden : whole.rows > (count - 1) * hidden
        guard whole.shape.rank >= 1, isWhole else {
            let least = count == 3 ? 3 * hidden : (count - 1) * hidden + 1
            throw .wrongShape(
                path: location, name: name, found: whole.shape,
                expected: Shape([least] + whole.shape.dimensions.dropFirst()))
        }
        return whole.rows(index * hidden..<(index == count - 1 ? whole.rows : (index + 1) * hidden))
    }

    private func swapHalves(_ whole: Tensor, _ name: String) throws(CheckpointError) -> Tensor {
        guard whole.shape.rank >= 1, whole.rows.isMultiple(of: 2) else {
            throw .malformedTensor(path: location, name: name, reason: "\(whole.shape) has no two halves")
        }
        let swapped = Tensor(zeros: whole.shape, whole.dtype)
        let half = whole.bytes.count / 2
        swapped.mutableAddress.copyMemory(from: whole.address + half, byteCount: half)
        (swapped.mutableAddress + half).copyMemory(from: whole.address, byteCount: half)
        return swapped
    }
}
