/// Layers of a 4-bit checkpoint that differ in nothing but the block's number.
public struct Int4LayerGroup: Sendable, Hashable {
    /// Their name, with `*` for the number.
    public let name: String
    /// How many.
    public let count: Int
    /// What they have in common, under that name.
    public let layer: Int4Layer
    /// The low-rank pair's rank; nil for modulations and for layers without one.
    public let rank: Int?
}

extension Int4LayerGroup: CustomStringConvertible {
    /// How the layers compute, in words.
    public var description: String {
        let size = "\(layer.outputs) × \(layer.inputs)"
        switch layer.kind {
        case .w4a4(let isUnsigned):
            let input = isUnsigned ? "unsigned inputs, shifted by \(Int4Layer.unsignedShift)" : "signed inputs"
            return "W4A4 \(size), groups of \(Int4Weights.groupSize), rank \(rank ?? 0), \(input)"
        case .w4a8:
            let branch = rank.map { "rank \($0)" } ?? "no low-rank branch"
            return "W4A8 \(size), groups of \(Int4Weights.groupSize), \(branch)"
        case .w4a16(let splits):
            let order = splits == 1 ? "in original order" : "\(splits) interleaved vectors"
            return "W4A16 \(size), groups of \(Int4Weights.groupSize), \(order)"
        }
    }
}

extension Int4Checkpoint {
    /// The layers, those that differ in nothing but the block's number together, in the order of the blocks.
    public var layerGroups: [Int4LayerGroup] {
        var order: [Int4LayerGroup] = []
        var counts: [Int4LayerGroup: Int] = [:]
        for layer in layers {
            let parts = layer.name.split(separator: ".")
            let name = parts.map { Int($0) == nil ? String($0) : "*" }.joined(separator: ".")
            let like = Int4Layer(name: name, kind: layer.kind, outputs: layer.outputs, inputs: layer.inputs)
            let group = Int4LayerGroup(name: name, count: 1, layer: like, rank: rank(of: layer))
            if counts.updateValue(counts[group, default: 0] + 1, forKey: group) == nil { order.append(group) }
        }
        return order.map { Int4LayerGroup(name: $0.name, count: counts[$0] ?? 1, layer: $0.layer, rank: $0.rank) }
    }
}
