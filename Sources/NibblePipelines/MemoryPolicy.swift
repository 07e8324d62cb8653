internal import NibbleCheckpoints
internal import NibbleModels
internal import NibbleTensors

/// How much memory there is, and what follows from it.
struct MemoryPolicy: Sendable {
    /// Bytes to stay below, mapped weights included.
    let limit: Int
    /// Bytes of weights that are not mapped, and in memory for as long as the process runs.
    let resident: Int

    /// What the process takes beside weights and activations: program, libraries and FLUX.1's own tokenizers (46 MB
    /// together, measured), and room for compiled products.
    private static let processBytes = 64 << 20

    /// - Parameters:
    ///   - limit: bytes to stay below; nil: nine tenths of what this process may have, the rest being others'.
    ///   - resident: bytes of weights that are not mapped.
    init(limit: Int?, resident: Int = 0) {
        self.limit = limit ?? Machine.current().memoryBytes / 10 * 9
        self.resident = resident
    }

    /// Throws where activations alone do not fit, or not beside the weights that stay, before they are asked for.
    func check(_ activations: Int, of stage: String) throws(PipelineError) {
        guard activations <= limit else { throw .tooLarge(stage: stage, bytes: activations, limit: limit) }
        guard resident == 0 || activations + resident <= limit else {
            throw .cannotStream(bytes: resident, beside: activations, limit: limit)
        }
    }

    /// Bytes that are left for activations beside some weights, and beside those that stay.
    func activations(beside weights: Int) -> Int { max(0, room(beside: weights)) }

    /// The same, negative where not even the weights fit.
    private func room(beside weights: Int) -> Int { limit - Self.processBytes - weights - resident }

    /// Whether a network's weights stay mapped between steps, or go block by block because they do not fit beside its
    /// activations.
    func residency(weights: MappedWeights, activations: Int) -> Residency {
        activations <= room(beside: weights.byteCount) ? .keep : .stream
    }
}
