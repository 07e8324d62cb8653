internal import Foundation
public import NibbleTensors

/// The sizes of T5's encoder that its tensors follow from (transformers' `T5Config`).
struct Int4T5Sizes: Decodable, Equatable {
    let vocabularySize: Int
    let hidden: Int
    let headDim: Int
    let heads: Int
    let blocks: Int
    let feedForward: Int
    let buckets: Int

    /// Width of all heads together.
    var attentionWidth: Int { heads * headDim }

    private enum CodingKeys: String, CodingKey {
        case vocabularySize = "vocab_size"
        case hidden = "d_model"
        case headDim = "d_kv"
        case heads = "num_heads"
        case blocks = "num_layers"
        case feedForward = "d_ff"
        case buckets = "relative_attention_num_buckets"
    }

    /// A missing key has transformers' default.
    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        // Far above any model, and low enough that no product of two overflows and no list of names fills the memory.
        vocabularySize = try values.size(.vocabularySize, standard: 32_128, in: 1...1 << 24)
        hidden = try values.size(.hidden, standard: 512, in: 1...65_536)
        headDim = try values.size(.headDim, standard: 64, in: 1...4096)
        heads = try values.size(.heads, standard: 8, in: 1...4096)
        blocks = try values.size(.blocks, standard: 6, in: 0...1024)
        feedForward = try values.size(.feedForward, standard: 2048)
        buckets = try values.size(.buckets, standard: 32)
    }
}

/// Every tensor of a T5 encoder whose blocks' layers are quantized, under transformers' names; layers that read one input
/// are one.
public struct Int4T5Schema: Sendable {
    /// The layers with 4-bit weights, block by block.
    public let layers: [Int4Layer]
    /// The tensors that are not quantized, with their shapes.
    public let plain: [(name: String, shape: Shape)]

    /// The list for a model.
    ///
    /// - Parameters:
    ///   - configuration: the text of transformers' `config.json`.
    ///   - path: where it comes from, for errors.
    /// - Throws: `CheckpointError.wrongConfiguration` or `.malformed`, also where no layer's size suits the kernels.
    public init(configuration: String, path: String) throws(CheckpointError) {
        let sizes = try decodeConfiguration(Data(configuration.utf8), path: path, as: Int4T5Sizes.self)
        self.init(sizes)
        guard !layers.isEmpty else {
            throw .wrongConfiguration(
                path: path, key: "d_model", found: "\(sizes.hidden)",
                expected: "a multiple of \(Int4Weights.groupSize), the inputs that share a scale")
        }
    }

    /// The list for some sizes.
    init(_ sizes: Int4T5Sizes) {
        var layers: [Int4Layer] = []
        var plain: [(name: String, shape: Shape)] = [("shared.weight", [sizes.vocabularySize, sizes.hidden])]
        func layer(_ name: String, outputs: Int, inputs: Int) {
            let parts = Int4T5Names.parts(of: name)
            if Self.isQuantizable(outputs: outputs, inputs: inputs) {
                layers.append(Int4Layer(name: name, kind: .w4a8, outputs: parts.count * outputs, inputs: inputs))
            } else {
                plain += parts.map { ("\($0).weight", [outputs, inputs]) }
            }
        }
        for index in 0..<sizes.blocks {
            let block = "encoder.block.\(index).layer."
            layer("\(block)0.SelfAttention.qkv", outputs: sizes.attentionWidth, inputs: sizes.hidden)
            layer("\(block)0.SelfAttention.o", outputs: sizes.hidden, inputs: sizes.attentionWidth)
            layer("\(block)1.DenseReluDense.wi", outputs: sizes.feedForward, inputs: sizes.hidden)
            layer("\(block)1.DenseReluDense.wo", outputs: sizes.hidden, inputs: sizes.feedForward)
            plain += [0, 1].map { ("\(block)\($0).layer_norm.weight", [sizes.hidden]) }
        }
        if sizes.blocks > 0 {
            let name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            plain.append((name, [sizes.buckets, sizes.heads]))
        }
        self.layers = layers
        self.plain = plain + [("encoder.final_layer_norm.weight", [sizes.hidden])]
    }

    /// Groups of inputs are whole, each of the layers that are joined has tiles of outputs of its own, and a group's scales
    /// of two tiles are 64 bytes, so that whatever follows in the file is aligned.
    private static func isQuantizable(outputs: Int, inputs: Int) -> Bool {
        inputs.isMultiple(of: Int4Weights.groupSize) && outputs.isMultiple(of: 2 * KernelOrder.tileOutputs)
    }
}

/// The names of T5's layers.
public enum Int4T5Names {
    /// transformers' layers that a layer of the 4-bit model is made of, by the order of its outputs.
    public static func parts(of layer: String) -> [String] {
        let stem = layer[..<(layer.lastIndex(of: ".").map { layer.index(after: $0) } ?? layer.startIndex)]
        return switch layer.dropFirst(stem.count) {
        case "qkv": ["q", "k", "v"].map { stem + $0 }
        case "wi": ["wi_0", "wi_1"].map { stem + $0 }
        default: [layer]
        }
    }
}
