import Foundation
import NibbleCheckpoints
import NibbleModels
import NibblePipelines
import NibbleTensors
import NibbleTestSupport
import Testing

/// Steps that are cut short.
@Suite struct FirstBlockCacheTests {
    private static func latents(
        _ folder: URL, _ cache: FirstBlockCache.Threshold?, threads: Int = 2
    ) async throws -> [Float] {
        let request = FluxRequest(
            prompt: "a tree", steps: 8, width: 64, height: 64, seed: 3, firstBlockCache: cache)
        var last: [Float] = []
        for try await event in try FluxPipelineTests.pipeline(folder, threads: threads)(request) {
            if case .step(_, let latents) = event { last = latents.floats() }
        }
        return last
    }

    @Test(arguments: Goldens.fluxModels)
    func `a threshold that nothing is below changes nothing, one that all is below changes the picture`(
        _ folder: URL
    ) async throws {
        let whole = try await Self.latents(folder, nil)
        let never: [FirstBlockCache.Threshold] = [.whole(1e-9), .stacks(double: 1e-9, single: 1e-9)]
        for threshold in never { #expect(try await Self.latents(folder, threshold) == whole) }
        let always: [FirstBlockCache.Threshold] = [.whole(9), .stacks(double: 9, single: 9)]
        for threshold in always { #expect(try await Self.latents(folder, threshold) != whole) }
    }

    @Test(arguments: Goldens.fluxModels) func `the number of threads changes no byte`(_ folder: URL) async throws {
        for threshold in [FirstBlockCache.Threshold.whole(0.2), .stacks(double: 0.2, single: 0.2)] {
            let one = try await Self.latents(folder, threshold, threads: 1)
            #expect(try await Self.latents(folder, threshold, threads: 2) == one)
        }
    }

    /// With a threshold that every change is below, only the first step runs all blocks; each later one adds what the
    /// blocks behind the first added then. That is computed here from the observer's streams.
    @Test(arguments: Goldens.fluxModels) func `what is skipped is what was added before`(_ folder: URL) async throws {
        let pipeline = try FluxPipelineTests.pipeline(folder)
        let request = FluxRequest(prompt: "a tree", steps: 3, width: 64, height: 64, seed: 3)
        let recorded = try #require(try await pipeline.recordInputs(of: [request]) { _ in }.first)
        let model = try FluxPipeline.PlainTransformer(of: .init(folder.appending(path: "model").path))
        let transformer = try FluxTransformer(model.config, weights: .init(model.source))
        let compute = Compute(precision: .f32)
        let cache = FirstBlockCache(.whole(9))
        let prediction = Tensor(zeros: recorded[0].latents.shape, .float32)
        transformer(recorded[0], into: prediction, cache: cache, on: compute) { _ in }
        #expect(cache.skippedBlocks == 0)
        // What the others added in the first step.
        let first = transformer.begin(recorded[0], on: compute) { Tensor(zeros: $0, .float32) }
        transformer.apply(0, to: first, on: compute)
        let after = first.stream.floats()
        for block in 1..<transformer.blockCount { transformer.apply(block, to: first, on: compute) }
        let added = zip(first.stream.floats(), after).map { $0 - $1 }
        // The second step by hand.
        let second = transformer.begin(recorded[1], on: compute) { Tensor(zeros: $0, .float32) }
        transformer.apply(0, to: second, on: compute)
        let stream = second.stream.mutableAddress.assumingMemoryBound(to: Float.self)
        for index in added.indices { stream[index] += added[index] }
        let expected = Tensor(zeros: prediction.shape, .float32)
        transformer.finish(second, into: expected, on: compute)
        transformer(recorded[1], into: prediction, cache: cache, on: compute) { _ in }
        #expect(cache.skippedBlocks == transformer.blockCount - 1)
        #expect(prediction.floats() == expected.floats())
    }
}
