import Foundation
import NibbleCheckpoints
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibblePipelines

/// Pictures of 4-bit transformers, with sums in 32 bits and as Nunchaku's kernels make them.
@Suite struct AccumulationTests {
    private static let models = GoldenInt4Model.drawable
    private static let request = FluxRequest(prompt: "red apple", steps: 2, width: 64, height: 48, seed: 5)

    private static func pipeline(
        _ model: GoldenInt4Model, _ accumulation: Accumulation = .f32, _ activations: ActivationBits = .int4,
        threads: Int, isQuantized: Bool = true
    ) throws -> FluxPipeline {
        var options = FluxPipeline.Options()
        options.threads = threads
        options.accumulation = accumulation
        options.activations = activations
        options.attention = .bf16  // Sums alone are compared.
        options.transformer = isQuantized ? model.file : nil
        return try FluxPipeline(model: try #require(model.pipeline), options: options)
    }

    @Test(
        .enabled(if: !models.isEmpty, "no svdq-* goldens with the whole model beside the repository"),
        arguments: models)
    func `a picture is near the one of 32-bit sums, and the same on one thread and two`(
        _ model: GoldenInt4Model
    ) async throws {
        let one = try await Self.pipeline(model, .nunchaku, threads: 1).draw(Self.request)
        let two = try await Self.pipeline(model, .nunchaku, threads: 2).draw(Self.request)
        #expect(one.picture.bitmap == two.picture.bitmap && one.latents == two.latents)
        let exact = try await Self.pipeline(model, threads: 2).draw(Self.request)
        let whole = try await Self.pipeline(model, threads: 2, isQuantized: false).draw(Self.request)
        // Rounding sums to bf16 moves a layer by 2e-3 (golden w4a4, bf16_vs_f32), 4-bit codes move it by 2e-2: all layers
        // and steps together, the first must stay below the second.
        let rounding = relativeError(one.latents, exact.latents)
        let quantization = relativeError(exact.latents, whole.latents)
        #expect(rounding > 0 && rounding < quantization)
        print("\(model): bf16 sums move the latents by \(rounding), 4 bits by \(quantization)")
        #expect(one.picture.record.accumulation == .nunchaku && exact.picture.record.accumulation == .f32)
        #expect(whole.picture.record.activations == nil)
    }

    @Test(
        .enabled(if: !models.isEmpty, "no svdq-* goldens with the whole model beside the repository"),
        arguments: models, ActivationBits.allCases)
    func `a 4-bit picture is the same on one thread and two`(
        _ model: GoldenInt4Model, _ activations: ActivationBits
    ) async throws {
        let one = try await Self.pipeline(model, .f32, activations, threads: 1).draw(Self.request)
        let two = try await Self.pipeline(model, .f32, activations, threads: 2).draw(Self.request)
        #expect(one.picture.bitmap == two.picture.bitmap && one.latents == two.latents)
        #expect(one.picture.record.activations == activations)
    }

    @Test func `8-bit activations have no such sums`() throws {
        var options = FluxPipeline.Options()
        options.accumulation = .nunchaku
        options.activations = .int8
        let error = #expect(throws: PipelineError.self) { try FluxPipeline(model: "any", options: options) }
        guard case .invalidRequest("accumulation", _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }
}
