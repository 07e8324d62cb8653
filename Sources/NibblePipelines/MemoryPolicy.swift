internal import NibbleCheckpoints
internal import NibbleModels
internal import NibbleTensors

/// How much memory there is, and what follows from it.
struct MemoryPolicy: Sendable {
    /// Bytes to stay below, mapped weights included.
    let limit: Int

    /// - Parameter limit: bytes to stay below; nil: nine tenths of what this process may have, the rest being others'.
    init(limit: Int?) {
        self.limit = limit ?? Machine.current().memoryBytes / 10 * 9
    }

    /// Throws where activations alone do not fit, before they are asked for.
    func check(_ activations: Int, of stage: String) throws(PipelineError) {
        guard activations <= limit else { throw .tooLarge(stage: stage, bytes: activations, limit: limit) }
    }

    /// Whether a network's weights stay mapped between steps, or go block by block because they do not fit beside its
    /// activations.
    func residency(weights: MappedWeights, activations: Int) -> Residency {
        weights.byteCount + activations <= limit ? .keep : .stream
    }
}
