internal import NibbleCheckpoints
internal import NibbleTensors

/// x + attention of all pixels to all others, with one head: the middle of encoder and decoder.
struct PixelAttention: Sendable {
    private let norm: GroupNorm
    private let query, key, value, output: Linear

    init(_ weights: WeightReader, channels: Int, groups: Int) throws(CheckpointError) {
        // Checkpoints from before diffusers 0.15 have other names for the same layers.
        let isOld = weights.contains("query.weight")
        func linear(_ name: String, _ oldName: String) throws(CheckpointError) -> Linear {
            let path = isOld ? [oldName] : name.split(separator: ".").map(String.init)
            return try Linear(path.reduce(weights) { $0[$1] }, input: channels, output: channels)
        }
        norm = try GroupNorm(weights["group_norm"], channels: channels, groups: groups, epsilon: 1e-6)
        query = try linear("to_q", "query")
        key = try linear("to_k", "key")
        value = try linear("to_v", "value")
        output = try linear("to_out.0", "proj_attn")
    }

    /// Applies the layer in place.
    ///
    /// - Parameters:
    ///   - x: the picture.
    ///   - room: memory of `roomBytes` for what arises on the way.
    ///   - compute: what to compute with.
    func callAsFunction(_ x: FeatureMap, room: Tensor, on compute: Compute) {
        var taken = 0
        func take(_ dtype: DType) -> Tensor {
            let tensor = Tensor(
                storage: room.storage, byteOffset: room.byteOffset + taken, shape: x.tensor.shape, dtype: dtype)
            taken += Self.aligned(tensor.elementCount * dtype.byteSize)
            return tensor
        }
        let operand = compute.precision.activation
        let normalized = take(operand)
        compute.scale(x.tensor, by: norm.scale(of: x, on: compute), into: normalized)
        let parts = [query, key, value].map { layer in
            let part = take(operand)
            layer(normalized, into: part, on: compute)
            return part
        }
        compute.attention(parts[0], parts[1], parts[2], heads: 1, into: normalized)
        let branch = take(.float32)
        output(normalized, into: branch, on: compute)
        if x.tensor.dtype == .float32 {
            compute.add(branch, to: x.tensor)
        } else {
            compute.add(x.tensor, to: branch)
            compute.convert(branch, into: x.tensor)
        }
    }

    /// Bytes of four operands and the branch.
    static func roomBytes(_ extent: FeatureExtent, on compute: Compute) -> Int {
        4 * aligned(extent.elements * compute.precision.activation.byteSize) + aligned(extent.elements * 4)
    }

    /// About what the attention itself takes from the workspace: packed keys and values, and half as much again.
    static func workBytes(_ extent: FeatureExtent, on compute: Compute) -> Int {
        3 * extent.elements * compute.precision.activation.byteSize
    }

    private static func aligned(_ bytes: Int) -> Int { (bytes + 63) & ~63 }
}
