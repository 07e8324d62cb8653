import Foundation
import NibbleImages
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibblePipelines

/// Full precision and quantized side by side: the pictures are those of `FluxPipeline`, and the figures are derived here
/// once more from what it gives.
@Suite struct ComparisonTests {
    static func options(_ precision: Precision = .f32) -> FluxPipeline.Options {
        var options = FluxPipeline.Options()
        options.precision = precision
        return options
    }

    static let request = ComparisonRequest(
        prompts: ["a tree", "A château!", "漢"], seed: 3, seedsPerPrompt: 2, steps: 2, width: 64, height: 32)

    /// All events of a comparison.
    private func run(
        _ comparison: FluxComparison, _ request: ComparisonRequest = request
    ) async throws -> (pictures: [ComparedPicture], progress: [ComparisonProgress], reports: [ComparisonReport]) {
        var (pictures, progress, reports) = ([ComparedPicture](), [ComparisonProgress](), [ComparisonReport]())
        for try await event in comparison(request) {
            switch event {
            case .picture(let picture): pictures.append(picture)
            case .progress(let now): progress.append(now)
            case .report(let report): reports.append(report)
            }
        }
        return (pictures, progress, reports)
    }

    @Test(arguments: Goldens.fluxModels, [Precision.f32, .bf16])
    func `a model is equal to itself`(_ folder: URL, _ precision: Precision) async throws {
        let model = folder.appending(path: "model").path
        let comparison = try FluxComparison(
            model: model, transformers: [model + "/transformer", model + "/transformer"],
            options: Self.options(precision))
        let (pictures, progress, reports) = try await run(comparison)
        #expect(reports.count == 6 && pictures.count == 18)
        let report = try #require(reports.last)
        #expect(report.variants.map(\.transformer.name) == ["transformer", "transformer-2"])
        for variant in report.variants {
            #expect(variant.transformer.attention == precision.rawValue)
            #expect(variant.equalPictures == 6 && variant.mean.psnr.value == .infinity && variant.mean.ssim == 1)
            #expect(variant.mean.latentErrorByStep == [0, 0] && variant.transformer.activations == nil)
            #expect(variant.mean.errorByBlock.allSatisfy { $0.image == 0 && $0.text == 0 })
            #expect(variant.transformer.weightBytes == report.reference.weightBytes)
        }
        let names = report.pictures.map(\.name)
        #expect(
            names.prefix(4) == ["01-a-tree-seed-3", "01-a-tree-seed-4", "02-a-chateau-seed-3", "02-a-chateau-seed-4"])
        #expect(names.suffix(2) == ["03-seed-3", "03-seed-4"])
        #expect(Set(pictures.map(\.name)).count == pictures.count)
        #expect(progress.map(\.fraction) == progress.map(\.fraction).sorted() && progress.last?.fraction == 1)
        #expect(progress.last?.secondsLeft == 0 && progress.allSatisfy { $0.secondsLeft.map { $0 >= 0 } ?? true })
    }

    @Test(
        .enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"),
        arguments: GoldenInt4Model.all)
    func `pictures and errors are those of the pipelines`(_ quantized: GoldenInt4Model) async throws {
        let model = try #require(quantized.original).appending(path: "model").path
        let comparison = try FluxComparison(model: model, transformers: [quantized.file], options: Self.options())
        let (pictures, _, reports) = try await run(comparison)
        let report = try #require(reports.last)
        #expect(report.variants.map(\.transformer.activations) == ["int4", "int8"])
        #expect(report.variants.allSatisfy { $0.transformer.weightBytes < report.reference.weightBytes })
        for (column, bits) in [nil, ActivationBits.int4, .int8].enumerated() {
            var options = Self.options()
            if let bits { (options.transformer, options.activations) = (quantized.file, bits) }
            let pipeline = try FluxPipeline(model: model, options: options)
            let made = pictures.filter { $0.column == column }
            for (index, one) in report.pictures.enumerated() {
                let alone = try await latents(pipeline, one)
                #expect(made[index].picture.bitmap == alone.picture.bitmap)
                #expect(made[index].picture.record == alone.picture.record)
                guard column > 0 else { continue }
                let reference = try await latents(FluxPipeline(model: model, options: Self.options()), one)
                let deviation = one.deviations[column - 1]
                for (step, (mine, theirs)) in zip(alone.latents, reference.latents).enumerated() {
                    // The test's own sum rounds differences to f32 first: 2^-24 of the values, over errors of percents.
                    let expected = relativeError(mine.floats(), theirs.floats())
                    #expect(abs(deviation.latentErrorByStep[step] - expected) <= 1e-5 * expected)
                }
                #expect(
                    deviation.psnr.value == alone.picture.bitmap.peakSignalToNoiseRatio(to: reference.picture.bitmap))
                #expect(deviation.ssim == alone.picture.bitmap.structuralSimilarity(to: reference.picture.bitmap))
                #expect(
                    deviation.errorByBlock.allSatisfy { $0.image > 0 && $0.text > 0 && $0.image < 1 && $0.text < 1 })
            }
        }
    }

    @Test(
        .enabled(if: Compute.hasInt8Attention, "this instruction set has no attention in bytes"),
        .enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"),
        arguments: GoldenInt4Model.all)
    func `attention is named by what it multiplies`(_ quantized: GoldenInt4Model) throws {
        let model = try #require(quantized.original).appending(path: "model").path
        for (attention, expected) in [(AttentionPrecision?.none, "int8"), (.bf16, "bf16"), (.int8, "int8")] {
            var options = Self.options(.bf16)
            options.attention = attention
            let comparison = try FluxComparison(model: model, transformers: [quantized.file], options: options)
            #expect(comparison.transformers.map(\.attention) == ["bf16", expected, expected])
        }
    }

    /// A picture of a report made by a pipeline alone, with its latents after each step.
    private func latents(
        _ pipeline: FluxPipeline, _ one: ComparisonReport.Picture
    ) async throws -> (picture: FluxPicture, latents: [Tensor]) {
        var latents: [Tensor] = []
        var made: FluxPicture?
        let seed = try #require(UInt64(one.seed))
        let request = FluxRequest(prompt: one.prompt, steps: 2, width: 64, height: 32, seed: seed)
        for try await event in pipeline(request) {
            if case .step(_, let after) = event { latents.append(after) }
            if case .picture(let picture) = event { made = picture }
        }
        return (try #require(made), latents)
    }

    @Test func `errors are quotients of norms, and means are means`() throws {
        let record = GenerationRecord(
            prompt: "", seed: 0, steps: 2, guidance: nil, width: 16, height: 16, maxSequenceLength: 1, precision: .f32,
            model: "", nibbleVersion: "", instructionSet: "", roundsConditioning: false)
        func trace(_ byte: UInt8, _ latents: [[Float]], _ image: [Float], _ text: [Float]) -> PictureTrace {
            let bitmap = Bitmap(width: 16, height: 16, pixels: [UInt8](repeating: byte, count: 768))
            return PictureTrace(
                picture: FluxPicture(bitmap: bitmap, record: record),
                latents: latents.map { Tensor($0, shape: [1, $0.count]) }, stepSeconds: [1, 2],
                blocks: ["double.0.img": image, "double.0.txt": text])
        }
        let reference = trace(0, [[3, 4], [0, 0]], [0, 2], [5])
        let near = Deviation(trace(1, [[3, 4.5], [0, 0]], [0, 1], [5]), from: reference, blocks: ["double.0"])
        // By hand: 0.5 / 5, 0 / 0, 1 / 2, 0 / 5; a mean square of 1.
        #expect(near.latentErrorByStep == [0.1, 0] && near.latentError == 0)
        #expect(near.errorByBlock == [BlockError(block: "double.0", image: 0.5, text: 0)])
        #expect(abs(near.psnr.value - 48.130803608679) < 1e-12)
        let equal = Deviation(reference, from: reference, blocks: ["double.0"])
        #expect(equal.psnr.value == .infinity && equal.ssim == 1)
        // Only zeros were expected: all is error.
        let zero = trace(0, [[0], [0]], [0], [0])
        #expect(Deviation(trace(0, [[0], [7]], [0], [0]), from: zero, blocks: []).latentErrorByStep == [0, 1])
        let mean = Deviation(meanOf: [near, equal])
        #expect(mean.psnr == near.psnr && mean.latentErrorByStep == [0.05, 0])
        #expect(mean.errorByBlock == [BlockError(block: "double.0", image: 0.25, text: 0)])
        #expect(mean.ssim == (near.ssim + 1) / 2)
    }

    @Test func `the JSON comes back, and equal pictures have a ratio of null`() async throws {
        let model = try #require(Goldens.fluxModels.first).appending(path: "model").path
        let comparison = try FluxComparison(model: model, transformers: [model + "/transformer"])
        let short = ComparisonRequest(prompts: ["x"], seed: .max, steps: 1, width: 16, height: 16)
        let report = try #require(try await run(comparison, short).reports.last)
        #expect(try ComparisonReport(json: report.json()) == report)
        let json = try #require(try JSONSerialization.jsonObject(with: report.json()) as? [String: Any])
        let variant = try #require((json["variants"] as? [[String: Any]])?.first)
        let mean = try #require(variant["mean"] as? [String: Any])
        #expect(mean["psnr"] is NSNull && mean["ssim"] as? Double == 1)
        #expect((json["pictures"] as? [[String: Any]])?.first?["seed"] as? String == "18446744073709551615")
        #expect(
            Set(json.keys).isSuperset(of: ["format", "model", "precision", "peak_rss_bytes", "reference", "width"]))
    }

    @Test func `a transformer of other sizes is refused by its file's name`() throws {
        let emoji = Goldens.repository.appending(path: "Models/flux-emoji").path
        let other = try #require(
            try Goldens.fluxModels.map { $0.appending(path: "model").path }.first { model in
                let config = "/transformer/config.json"
                return try Data(contentsOf: URL(filePath: model + config))
                    != Data(contentsOf: URL(filePath: emoji + config))
            })
        #expect {
            try FluxComparison(model: emoji, transformers: [other + "/transformer"])
        } throws: { error in
            guard case PipelineError.inconsistentModel(let path, _)? = error as? PipelineError else { return false }
            return path == other + "/transformer"
        }
    }

    @Test func `what cannot be compared is refused, and cancelling stops`() async throws {
        let model = try #require(Goldens.fluxModels.first).appending(path: "model").path
        let comparison = try FluxComparison(model: model, transformers: [model + "/transformer"])
        for (request, name) in [
            (ComparisonRequest(prompts: []), "prompts"),
            (ComparisonRequest(prompts: ["x"], seedsPerPrompt: 0), "seeds"),
            (ComparisonRequest(prompts: ["x"], seedsPerPrompt: .max), "seeds"),
            (ComparisonRequest(prompts: ["x"], steps: 0), "steps"),
            (ComparisonRequest(prompts: ["x"], width: 17), "width"),
        ] {
            await #expect {
                try await run(comparison, request)
            } throws: { error in
                guard case PipelineError.invalidRequest(let parameter, _, _)? = error as? PipelineError else {
                    return false
                }
                return parameter == name
            }
        }
        let task = Task {
            for try await event in comparison(Self.request) {
                if case .report = event { withUnsafeCurrentTask { $0?.cancel() } }
            }
            try Task.checkCancellation()
        }
        await #expect(throws: CancellationError.self) { try await task.value }
    }

    @Test func `time left is each transformer's own`() {
        var pace = ComparisonPace(pictures: 2, columns: 2)
        func now(step: Int, seconds: Double) -> FluxEvent.Progress {
            FluxEvent.Progress(picture: 0, pictures: 1, step: step, steps: 4, block: 0, blocks: 3, seconds: seconds)
        }
        #expect(pace.progress(now(step: 0, seconds: 0), picture: 0, column: 0, name: "").secondsLeft == nil)
        // 2 s a step for all that is known: 2 steps of this picture and 3 pictures of 4 steps are left.
        #expect(pace.progress(now(step: 2, seconds: 4), picture: 0, column: 0, name: "").secondsLeft == 28)
        pace.add([2, 2, 2, 50], column: 0)
        #expect(pace.medians == [2, 0])
        // 1 s a step for the second: 3 steps of this picture and 4 of the next, and the first one's 4 of 2 s.
        let second = pace.progress(now(step: 1, seconds: 1), picture: 0, column: 1, name: "x")
        #expect(second.secondsLeft == 15 && second.fraction == 0.3125 && second.transformer == "x")
    }
}
