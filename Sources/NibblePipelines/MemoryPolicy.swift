internal import NibbleCheckpoints
internal import NibbleModels
internal import NibbleTensors

/// How much memory there is, and what follows from it.
struct MemoryPolicy: Sendable {
    /// Bytes to stay below, mapped weights included.
    let limit: Int

    /// What the process takes beside weights and activations: program, libraries and FLUX.1's own tokenizers (46 MB
    /// together, measured), and room for compiled products.
    private static let processBytes = 64 << 20

    /// - Parameter limit: bytes to stay below; nil: nine tenths of what this process may have, the rest being others'.
    init(limit: Int?) {
        self.limit = limit ?? Machine.current().memoryBytes / 10 * 9
    }

    /// Throws where activations alone do not fit, before they are asked for.
    func check(_ activations: Int, of stage: String) throws(PipelineError) {
        guard activations <= limit else { throw .tooLarge(stage: stage, bytes: activations, limit: limit) }
    }

    /// Bytes that are left for activations beside some weights.
    func activations(beside weights: Int) -> Int { max(0, limit - Self.processBytes - weights) }

    /// Whether a network's weights stay mapped between steps, or go block by block because they do not fit beside its
    /// activations.
    func residency(weights: MappedWeights, activations: Int) -> Residency {
        activations <= self.activations(beside: weights.byteCount) ? .keep : .stream
    }
}
