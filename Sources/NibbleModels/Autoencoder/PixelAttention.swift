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
    func callAsFunction(_ x: FeatureMap, on compute: Compute) {
        let workspace = compute.workspace
        let shape = x.tensor.shape
        let operand = compute.precision.activation
        workspace.scope {
            let normalized = workspace.tensor(shape, operand)
            compute.scale(x.tensor, by: norm.scale(of: x, on: compute), into: normalized)
            let parts = [query, key, value].map { layer in
                let part = workspace.tensor(shape, operand)
                layer(normalized, into: part, on: compute)
                return part
            }
            compute.attention(parts[0], parts[1], parts[2], heads: 1, into: normalized)
            let branch = workspace.tensor(shape, .float32)
            output(normalized, into: branch, on: compute)
            if x.tensor.dtype == .float32 {
                compute.add(branch, to: x.tensor)
            } else {
                compute.add(x.tensor, to: branch)
                compute.convert(branch, into: x.tensor)
            }
        }
    }

    /// About what the layer takes from the workspace: four operands, packed keys and values, the branch; rounded up by
    /// an operand.
    static func memory(pixels: Int, channels: Int, on compute: Compute) -> Int {
        pixels * channels * (7 * compute.precision.activation.byteSize + 4)
    }
}
