import Foundation
import NibbleModels
import NibblePipelines
import NibbleTensors
import NibbleTestSupport
import Testing

/// What a transformer is given while several pictures are drawn in lockstep, against each of them drawn alone.
@Suite struct RecordingTests {
    @Test(arguments: Goldens.fluxModels)
    func `pictures in lockstep are those drawn alone`(_ folder: URL) async throws {
        let requests = [("a tree", UInt64(3)), ("a house", 9)].map { prompt, seed in
            FluxRequest(prompt: prompt, steps: 3, width: 64, height: 96, seed: seed)
        }
        let pipeline = try FluxPipelineTests.pipeline(folder)
        let recorded = try await pipeline.recordInputs(of: requests) { _ in }
        #expect(recorded.map(\.count) == [3, 3])
        for (request, inputs) in zip(requests, recorded) {
            for try await event in pipeline(request) {
                guard case .step(let step, let latents) = event, step + 1 < inputs.count else { continue }
                #expect(inputs[step + 1].latents.floats() == latents.floats(), "after step \(step)")
            }
            #expect(inputs[0].timestep > inputs[1].timestep && inputs[1].timestep > inputs[2].timestep)
        }
        #expect(recorded[0][0].text.floats() != recorded[1][0].text.floats())
        #expect(recorded[0][0].latents.floats() != recorded[1][0].latents.floats())
    }
}
