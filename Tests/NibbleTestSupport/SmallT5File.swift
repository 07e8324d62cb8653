internal import Foundation
public import NibbleCheckpoints
public import NibbleTensors

/// A 4-bit T5 encoder of made-up numbers, as a file, for tests of what is done to it and of what is wrong with it.
public struct SmallT5File {
    /// The text of its configuration. The feed-forward's 96 channels are no multiple of 64, so `wo` stays in 16 bits.
    public static let configuration = """
        {"d_model": 64, "d_kv": 32, "num_heads": 2, "d_ff": 96, "num_layers": 2, "vocab_size": 40,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "feed_forward_proj": "gated-gelu"}
        """

    /// The tensors by name, to be changed before they are written.
    public var tensors: [String: Tensor] = [:]
    /// What the layers are made of, by their names.
    public private(set) var weights: [String: Int4Weights] = [:]

    /// - Parameter rank: of the low-rank pairs; 0: none.
    /// - Throws: never, as long as the configuration is one.
    public init(rank: Int) throws {
        let schema = try Int4T5Schema(configuration: Self.configuration, path: "a test")
        var state: UInt32 = 1
        func next() -> UInt32 {
            state = state &* 1_664_525 &+ 1_013_904_223
            return state >> 16
        }
        func random(_ shape: Shape, _ scale: Float, around center: Float = 0) -> Tensor {
            let tensor = Tensor(zeros: shape, .bfloat16)
            let target = tensor.mutableAddress.assumingMemoryBound(to: BFloat16.self)
            for index in 0..<shape.elementCount {
                target[index] = BFloat16(center + scale * (Float(next() % 256) / 128 - 1))
            }
            return tensor
        }
        for layer in schema.layers {
            let (outputs, inputs) = (layer.outputs, layer.inputs)
            let codes = Tensor(zeros: [outputs, inputs], .int8)
            let target = codes.mutableAddress.assumingMemoryBound(to: Int8.self)
            for index in 0..<codes.elementCount { target[index] = Int8(truncatingIfNeeded: Int32(next() % 15) - 7) }
            let smooth = random([inputs], 0.25, around: 1)
            let made = Int4Weights(
                codes: codes, scales: random([outputs, inputs / 64], 0.004, around: 0.02), smooth: smooth,
                originalSmooth: smooth, down: random([rank, inputs], 0.05), up: random([outputs, rank], 0.05),
                bias: Tensor(zeros: [outputs], .bfloat16))
            weights[layer.name] = made
            for (key, tensor) in made.kernelOrder() { tensors["\(layer.name).\(key)"] = tensor }
        }
        for (name, shape) in schema.plain {
            tensors[name] = random(shape, 0.25, around: name.hasSuffix("norm.weight") ? 1 : 0)
        }
    }

    /// Writes the file.
    ///
    /// - Parameters:
    ///   - path: where.
    ///   - metadata: in the place of its own.
    /// - Throws: what writing throws.
    public func write(to path: String, metadata: [String: String]? = nil) throws {
        let declarations = tensors.sorted { $0.key < $1.key }.map {
            TensorDeclaration(name: $0.key, dtype: $0.value.dtype, shape: $0.value.shape)
        }
        func isOfLayer(_ name: String) -> Bool { weights.keys.contains { name.hasPrefix($0 + ".") } }
        let layers = declarations.filter { isOfLayer($0.name) }
        let plain = declarations.filter { !isOfLayer($0.name) }
        let writer =
            try metadata.map {
                try SafetensorsWriter(
                    path, tensors: layers + plain, metadata: $0, order: .asListed(alignment: KernelOrder.alignment))
            }
            ?? NibbleCheckpoint.textEncoderWriter(
                path, layers: layers, plain: plain, configuration: Self.configuration)
        for (name, tensor) in tensors { try writer.write(name, tensor) }
        try writer.finish()
    }
}
