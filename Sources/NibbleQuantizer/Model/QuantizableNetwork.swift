public import NibbleCheckpoints
public import NibbleTensors

/// A network whose blocks are quantized one after the other. It also carries what it is shown while it runs: passages,
/// such as the steps of some pictures, each with its residual stream.
public protocol QuantizableNetwork: AnyObject {
    /// The number of blocks.
    var blockCount: Int { get }

    /// What the observer knows a block by.
    func name(of block: Int) -> String

    /// The layers of a block.
    func layers(of block: Int) -> BlockLayers

    /// The 16-bit weights of a layer as views of the mapped file, and its bias in f32.
    func member(_ layer: Int4Layer) throws(CheckpointError) -> LayerGroup.Member

    /// A block's 16-bit weights, to be fetched ahead of their use and released after it.
    func weights(of block: Int) -> MappedWeights

    /// Sets the residual streams to what comes before the first block.
    ///
    /// - Parameters:
    ///   - compute: what to compute with.
    ///   - memoryLimit: bytes that the streams may take.
    /// - Returns: the number of passages; 0 where the network is not shown anything.
    /// - Throws: `QuantizationError.tooLarge`.
    func begin(on compute: Compute, memoryLimit: Int) throws -> Int

    /// Takes a passage through a block.
    func apply(_ block: Int, to passage: Int, on compute: Compute)

    /// Tokens of a passage that a layer sees.
    func tokens(of layer: Int4Layer) -> Int

    /// Whether every layer has a low-rank branch in the file, be it of zeros.
    var hasBranches: Bool { get }

    /// A layer's tensors as the journal keeps them and the file has them, by their keys.
    func stored(_ weights: Int4Weights) -> [String: Tensor]
}

/// The layers of one block that are quantized.
public struct BlockLayers: Sendable {
    /// Layers that read one input.
    public struct Group: Sendable {
        /// At least one.
        public let layers: [Int4Layer]
        /// What the observer knows their input by, behind the block's name.
        public let input: String
    }

    /// Layers that are quantized with their inputs.
    public let groups: [Group]
    /// Layers of one row, rounded without.
    public let modulations: [Int4Layer]

    /// Parameters of the layers that are quantized with their inputs.
    var parameters: Int { groups.flatMap(\.layers).reduce(0) { $0 + $1.outputs * $1.inputs } }
}
