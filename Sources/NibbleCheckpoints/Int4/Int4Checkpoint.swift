internal import Foundation
public import NibbleTensors
internal import Synchronization

/// How a 4-bit checkpoint of a FLUX.1 cuts the model into layers, and by which names.
public enum Int4Structure: Sendable {
    /// As Nunchaku's engine: q, k and v are one layer, a single block's output is two whose results are added, inputs
    /// behind a GELU are shifted and without sign, modulations are interleaved and scale by 1 more than the original.
    case nunchaku
    /// As diffusers: a layer for each of the model's, none of them shifted, modulations in their original order. Some of
    /// the model's layers may not be quantized.
    case diffusers
    /// As transformers' T5 encoder: q, k and v are one layer, and so are the two layers of a gated feed-forward that read
    /// its input. Layers whose sizes the kernels cannot take are not quantized.
    case t5
}

/// A FLUX.1's transformer or text encoder whose blocks' layers have 4-bit weights, of whatever form: what the engine runs, and what every form is
/// written from, be it a file of another form or a quantizer's results.
///
/// As a `TensorSource` it has the tensors that are not quantized at least, under the names of its structure; those of a
/// file have what is stored for the layers too.
public protocol Int4Checkpoint: TensorSource {
    /// How layers are cut and named.
    var structure: Int4Structure { get }

    /// The layers with 4-bit weights, block by block.
    var layers: [Int4Layer] { get }

    /// Names of the tensors that are not quantized: embedders, norms, the ends.
    var plainTensors: [String] { get }

    /// What Nunchaku's single file says of itself: `config`, the text of diffusers' `config.json` without what is said
    /// there of quantization; `quantization_config`; `comfy_config` and `model_class`, if it is of Nunchaku's structure.
    var metadata: [String: String] { get }

    /// The rank of a layer's low-rank pair; nil for a modulation and for a layer without one.
    func rank(of layer: Int4Layer) -> Int?

    /// The type of one of a layer's 16-bit parts, by Nunchaku's key; BF16, unless the checkpoint says otherwise.
    func dtype(of key: String, in layer: Int4Layer) -> DType

    /// Reads a layer, and looks at every number that it computes with.
    ///
    /// - Parameters:
    ///   - layer: one of `layers`, no modulation.
    ///   - rows: which outputs, multiples of 128, or of 16 for the kind W4A8; nil: all.
    /// - Returns: copies in plain order. May be called from several threads.
    /// - Throws: `CheckpointError.malformedTensor` for a number that cannot be computed with.
    func weights(_ layer: Int4Layer, rows: Range<Int>?) throws(CheckpointError) -> Int4Weights

    /// Reads a modulation, and looks at every number that it computes with.
    ///
    /// - Parameters:
    ///   - layer: one of `layers`, of the kind W4A16.
    ///   - pool: the threads that bring it into order; nil: this one.
    /// - Returns: copies in plain and original order.
    /// - Throws: `CheckpointError.malformedTensor` for a number that cannot be computed with.
    func modulation(_ layer: Int4Layer, on pool: ThreadPool?) throws(CheckpointError) -> Int4ModulationWeights

    /// A layer in the kernels' order: views of the file where that has it, or else made now, in memory of its own, of
    /// numbers that were all looked at; 16-bit floats that the kernels do not read are rounded to bfloat16.
    ///
    /// - Parameters:
    ///   - layer: one of `layers`, of the kind W4A4.
    ///   - pool: the threads that bring it into order.
    /// - Returns: its parts.
    /// - Throws: `CheckpointError`.
    func packed(_ layer: Int4Layer, on pool: ThreadPool) throws(CheckpointError) -> Int4PackedWeights

    /// A modulation in the kernels' order, as `packed`.
    func packedModulation(_ layer: Int4Layer, on pool: ThreadPool) throws(CheckpointError) -> Int4PackedModulation

    /// Whether `packed` gives views of a mapped file, which need no memory of their own.
    var isMapped: Bool { get }

    /// Lets a layer's pages of the file leave this process's memory.
    func release(_ layer: Int4Layer) throws(CheckpointError)
}

// MARK: - What most have in common

extension Int4Checkpoint {
    /// BF16.
    public func dtype(of key: String, in layer: Int4Layer) -> DType { .bfloat16 }

    /// Its layers have to be brought into order.
    public var isMapped: Bool { false }

    /// Nothing is mapped.
    public func release(_ layer: Int4Layer) throws(CheckpointError) {}

    /// All outputs of a layer.
    public func weights(_ layer: Int4Layer) throws(CheckpointError) -> Int4Weights {
        try weights(layer, rows: nil)
    }

    /// A modulation, on this thread.
    public func modulation(_ layer: Int4Layer) throws(CheckpointError) -> Int4ModulationWeights {
        try modulation(layer, on: nil)
    }

    /// Throws where this is a text encoder.
    public func requireTransformer() throws(CheckpointError) {
        guard structure == .t5 else { return }
        throw .wrongFormat(
            path: location, found: "a T5 encoder in 4 bits",
            expected: "a transformer; a T5 encoder is for --text-encoder-2")
    }

    /// Throws where this is a transformer.
    public func requireTextEncoder() throws(CheckpointError) {
        guard structure != .t5 else { return }
        throw .wrongFormat(
            path: location, found: "a transformer in 4 bits",
            expected: "a T5 encoder, as 'nibble quantize --component text_encoder_2' makes it; a transformer is for "
                + "--transformer")
    }

    /// The network's configuration, as the metadata has it.
    ///
    /// - Parameter type: what to decode; keys that it does not name are ignored.
    /// - Returns: the configuration.
    /// - Throws: `CheckpointError.wrongConfiguration`.
    public func config<Configuration: Decodable>(
        as type: Configuration.Type
    ) throws(CheckpointError) -> Configuration {
        try decodeConfiguration(Data((metadata["config"] ?? "{}").utf8), path: location, as: type)
    }

    /// Reads every layer and looks at every number that an engine computes with; names, types and shapes were compared
    /// when the checkpoint was opened, and a nibble is a code whatever it holds.
    ///
    /// - Parameters:
    ///   - pool: the threads that read.
    ///   - progress: called before each layer with its number and the number of all.
    /// - Throws: `CheckpointError.malformedTensor` for the first number that cannot be computed with.
    public func verifyLayers(
        on pool: ThreadPool, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) throws(CheckpointError) {
        for (index, layer) in layers.enumerated() {
            progress(index, layers.count)
            try verify(layer, on: pool)
            try release(layer)
        }
    }

    /// Looks at every number of a layer.
    func verify(_ layer: Int4Layer, on pool: ThreadPool) throws(CheckpointError) {
        switch layer.kind {
        case .w4a4, .w4a8: try forEachPiece(layer, on: pool) { _, _ in }
        case .w4a16: _ = try modulation(layer, on: pool)
        }
    }

    /// Reads a layer in pieces of its outputs, which all threads share out.
    ///
    /// - Parameters:
    ///   - layer: one of `layers`, no modulation.
    ///   - pool: the threads.
    ///   - body: called with a piece and its outputs, on any thread.
    /// - Throws: `CheckpointError`, that of the first piece that has one.
    func forEachPiece(
        _ layer: Int4Layer, on pool: ThreadPool,
        _ body: @escaping @Sendable (_ rows: Range<Int>, _ piece: Int4Weights) -> Void
    ) throws(CheckpointError) {
        // Some 2 MiB of codes: what all pieces read anew, the down-projection, is small beside them.
        let tile = NunchakuLayout.tileRows
        let height = max(1, (2 << 20) / (layer.inputs * tile)) * tile
        let failures = Mutex<[Int: CheckpointError]>([:])
        pool.run((layer.outputs + height - 1) / height) { piece, _ in
            let rows = piece * height..<min((piece + 1) * height, layer.outputs)
            do throws(CheckpointError) {
                body(rows, try weights(layer, rows: rows))
            } catch {
                failures.withLock { $0[piece] = error }
            }
        }
        if let first = failures.withLock({ $0.min { $0.key < $1.key } }) { throw first.value }
    }
}
