internal import NibbleCheckpoints
internal import NibbleModels

extension FluxPipeline {
    /// Whether the transformer's blocks have 4-bit weights.
    public nonisolated var isQuantized: Bool { transformer.isQuantized }

    /// Bytes of the transformer's weights that lie in mapped files.
    public nonisolated var mappedBytes: Int { transformer.weights.mappedWeights.byteCount }

    /// Bytes of the transformer's weights that were brought into memory of their own.
    public nonisolated var ownedBytes: Int { transformer.weights.ownedByteCount }

    /// Multiply-adds of a step.
    ///
    /// - Parameter request: what is wanted.
    /// - Returns: of one picture, all linear layers and both products of attention.
    /// - Throws: `PipelineError.invalidRequest`.
    public nonisolated func multiplyAddsPerStep(of request: FluxRequest) throws(PipelineError) -> Double {
        let resolved = try ResolvedRequest(request, defaults)
        // A token is a patch of 2 × 2 latents.
        let side = 2 * defaults.latentScale
        return transformer.multiplyAdds(
            imageTokens: resolved.width / side * (resolved.height / side), textTokens: resolved.maxSequenceLength)
    }
}
