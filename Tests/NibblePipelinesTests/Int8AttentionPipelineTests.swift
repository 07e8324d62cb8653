import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibblePipelines

/// Pictures with attention in bytes.
@Suite(.enabled(if: Compute.hasInt8Attention, "this instruction set has no attention in bytes"))
struct Int8AttentionPipelineTests {
    private static let models = GoldenInt4Model.drawable
    private static let request = FluxRequest(prompt: "red apple", steps: 2, width: 64, height: 48, seed: 5)

    private static func pipeline(
        _ model: GoldenInt4Model, _ attention: AttentionPrecision?, threads: Int = 2, isQuantized: Bool = true,
        _ change: (inout FluxPipeline.Options) -> Void = { _ in }
    ) throws -> FluxPipeline {
        var options = FluxPipeline.Options()
        options.threads = threads
        options.attention = attention
        options.transformer = isQuantized ? model.file : nil
        change(&options)
        return try FluxPipeline(model: try #require(model.pipeline), options: options)
    }

    @Test(
        .enabled(if: !models.isEmpty, "no svdq-* goldens with the whole model beside the repository"),
        arguments: models)
    func `4-bit transformers have it, and it moves a picture less than they do`(_ model: GoldenInt4Model) async throws {
        let one = try await Self.pipeline(model, nil, threads: 1).draw(Self.request)
        let two = try await Self.pipeline(model, .int8, threads: 2).draw(Self.request)
        #expect(one.picture.bitmap == two.picture.bitmap && one.latents == two.latents)
        #expect(one.picture.record == two.picture.record && one.picture.record.attention == .int8)
        let exact = try await Self.pipeline(model, .bf16).draw(Self.request)
        let whole = try await Self.pipeline(model, nil, isQuantized: false).draw(Self.request)
        let wholeInBytes = try await Self.pipeline(model, .int8, isQuantized: false).draw(Self.request)
        #expect(exact.picture.record.attention == .bf16 && whole.picture.record.attention == .bf16)
        // About 1 % of attention's output, which is one of the terms of a block, against 4-bit layers' several.
        let attention = relativeError(wholeInBytes.latents, whole.latents)
        let layers = relativeError(exact.latents, whole.latents)
        #expect(attention > 0 && attention < layers / 2)
        print("\(model): attention in bytes moves the latents by \(attention), 4-bit layers by \(layers)")
    }

    @Test(
        .enabled(if: !models.isEmpty, "no svdq-* goldens with the whole model beside the repository"),
        arguments: models)
    func `not beside f32 or Nunchaku's sums unless asked for`(_ model: GoldenInt4Model) async throws {
        let inFloats = try await Self.pipeline(model, nil) { $0.precision = .f32 }.draw(Self.request)
        let likeNunchaku = try await Self.pipeline(model, nil) { $0.accumulation = .nunchaku }.draw(Self.request)
        #expect(inFloats.picture.record.attention == .bf16 && likeNunchaku.picture.record.attention == .bf16)
        let error = #expect(throws: PipelineError.self) {
            try Self.pipeline(model, .int8) { $0.precision = .f32 }
        }
        guard case .invalidRequest("attention", _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }
}
