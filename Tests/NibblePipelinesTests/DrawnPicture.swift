import NibblePipelines
import NibbleTensors

extension FluxPipeline {
    /// Draws one picture.
    ///
    /// - Returns: the latents of the last step, and the picture.
    func draw(_ request: FluxRequest) async throws -> (latents: [Float], picture: FluxPicture) {
        var latents: [Float] = []
        for try await event in self(request) {
            switch event {
            case .step(_, let tensor): latents = tensor.floats()
            case .picture(let picture): return (latents, picture)
            default: break
            }
        }
        throw CancellationError()
    }
}
