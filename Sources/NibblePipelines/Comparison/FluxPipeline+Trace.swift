internal import NibbleModels
internal import NibbleTensors

/// What a comparison keeps of one picture's making.
struct PictureTrace: Sendable {
    let picture: FluxPicture
    /// The packed latents after each step, `[imageTokens, channels]` f32.
    let latents: [Tensor]
    /// How long each step took.
    let stepSeconds: [Double]
    /// The residual stream after each block of the first step: some tokens' rows one after the other, by the names that
    /// an observer knows them by (`double.0.img`, `double.0.txt`, `single.0.img`, …).
    let blocks: [String: [Float]]
}

extension FluxPipeline {
    /// Tokens of text and of image whose residual stream is kept, evenly spread: all would be 6 GB for FLUX.1 at 1024².
    static let tracedTokens = 128

    /// The blocks' names, in their order.
    nonisolated var blockNames: [String] { (0..<transformer.blockCount).map(transformer.name) }

    /// Runs the text encoders.
    func encodeText(_ request: FluxRequest) throws -> TextStates { try encode(ResolvedRequest(request, defaults)) }

    /// Makes one picture and keeps what it went through.
    ///
    /// - Parameters:
    ///   - request: of one picture.
    ///   - text: what the text encoders made of its prompt.
    ///   - progress: is told of every block and step.
    /// - Returns: the picture and what was kept.
    /// - Throws: what is wrong with the request or the model, or `CancellationError`.
    func trace(
        _ request: FluxRequest, text: TextStates, progress: (FluxEvent.Progress) -> Void
    ) throws -> PictureTrace {
        precondition(request.count == 1)
        let wanted = Set(blockNames.flatMap { ["\($0).img", "\($0).txt"] })
        var blocks: [String: [Float]] = [:]
        // Both models' first step begins with the same latents: what differs there is their blocks' doing alone.
        compute.observer = { name, activation in
            if wanted.contains(name) { blocks[name] = Self.someRows(of: activation) }
        }
        defer { compute.observer = nil }
        var latents: [Tensor] = []
        var stepSeconds: [Double] = []
        var made: FluxPicture?
        let clock = ContinuousClock()
        var began = clock.now
        try run(request, text: text) { event in
            switch event {
            case .stage(.denoising): began = clock.now
            case .progress(let now): progress(now)
            case .step(_, let after):
                compute.observer = nil
                latents.append(after)
                let now = clock.now
                stepSeconds.append(began.duration(to: now) / .seconds(1))
                began = now
            case .picture(let picture): made = picture
            case .stage, .denoised: break
            }
        }
        guard let made else { preconditionFailure("a run that did not throw made no picture") }
        return PictureTrace(picture: made, latents: latents, stepSeconds: stepSeconds, blocks: blocks)
    }

    /// At most `tracedTokens` of a matrix's rows, evenly spread.
    private static func someRows(of activation: Tensor) -> [Float] {
        let count = min(activation.rows, tracedTokens)
        return (0..<count).flatMap { index in
            let row = index * activation.rows / count
            return activation.rows(row..<row + 1).floats()
        }
    }
}
