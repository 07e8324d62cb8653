internal import Foundation
internal import NibbleCheckpoints
internal import NibbleModels
public import NibbleTensors

/// Full precision and quantized transformers side by side: the same prompts, the same noise, pictures and figures.
///
///     let comparison = try FluxComparison(model: "Models/flux-emoji", transformers: ["svdq-int4.safetensors"])
///     for try await event in comparison(ComparisonRequest(prompts: ["red apple"])) {
///         if case .report(let report) = event { print(report.variants[0].mean.psnr.value) }
///     }
public struct FluxComparison: Sendable {
    /// A transformer, open.
    private struct Column: Sendable {
        let pipeline: FluxPipeline
        let transformer: ComparisonReport.Transformer
    }

    /// The model's own transformer first.
    private let columns: [Column]

    /// Opens a model and the transformers that are compared with its own.
    ///
    /// - Parameters:
    ///   - model: a diffusers folder with its own transformer.
    ///   - transformers: at least one: what `FluxPipeline.Options.transformer` takes.
    ///   - activations: what the inputs of 4-bit layers are quantized to, each for itself; without effect on
    ///     transformers that are not quantized.
    ///   - options: how to work; precision is that of all networks, so that the difference is the quantization's alone,
    ///     `attention` that of the others.
    /// - Throws: as `FluxPipeline`; `PipelineError.inconsistentModel` for a transformer of other sizes than the model's.
    public init(
        model: String, transformers: [String], activations: [ActivationBits] = ActivationBits.allCases,
        options: FluxPipeline.Options = FluxPipeline.Options()
    ) throws {
        precondition(!transformers.isEmpty && !activations.isEmpty)
        var options = options
        options.transformer = nil
        var own = try FluxPipeline(model: model, options: options)
        let others = try transformers.map { path in (path, try Self.open(path, beside: own, options)) }
        // Layers that are not mapped stay in memory while the others run.
        let resident = others.reduce(0) { $0 + $1.1.weights.ownedByteCount }
        options.memoryLimit = max(0, own.memory.limit - resident)
        let attention = options.attention
        options.attention = .bf16
        own = FluxPipeline(own, transformer: own.transformer, options: options)
        var columns = [Column(pipeline: own, transformer: try Self.summary("full-precision", own))]
        options.attention = attention
        for (path, transformer) in others {
            for bits in transformer.isQuantized ? activations : Array(activations.prefix(1)) {
                options.transformer = path
                options.activations = bits
                let pipeline = FluxPipeline(own, transformer: transformer, options: options)
                let name = Self.name(path, transformer.isQuantized ? bits : nil, besides: columns)
                columns.append(Column(pipeline: pipeline, transformer: try Self.summary(name, pipeline)))
            }
        }
        self.columns = columns
    }

    private static func open(
        _ path: String, beside own: FluxPipeline, _ options: FluxPipeline.Options
    ) throws -> FluxTransformer {
        var options = options
        options.transformer = path
        let transformer = try FluxPipeline.openTransformer(
            options, in: own.folder, on: ThreadPool(threadCount: options.threads))
        let (found, expected) = (transformer.config, own.transformer.config)
        guard found == expected else {
            throw PipelineError.inconsistentModel(
                path: path,
                reason: "it has \(found.inWords), but the model's own transformer has \(expected.inWords); "
                    + "was it made from this model?")
        }
        return transformer
    }

    private static func weightBytes(_ path: String) throws -> Int {
        try Inspection(path).components.reduce(0) { $0 + $1.byteCount }
    }

    private static func summary(_ name: String, _ pipeline: FluxPipeline) throws -> ComparisonReport.Transformer {
        let path = pipeline.options.transformer ?? pipeline.folder.folder(.transformer)
        let attention = FluxPipeline.attention(pipeline.options, of: pipeline.transformer)
        return ComparisonReport.Transformer(
            name: name, path: path,
            activations: pipeline.transformer.isQuantized ? pipeline.options.activations.rawValue : nil,
            attention: attention == .int8 ? attention.rawValue : pipeline.options.precision.rawValue,
            weightBytes: try weightBytes(path), secondsPerStep: 0)
    }

    /// A name that no other column has and that a file can have.
    private static func name(_ path: String, _ bits: ActivationBits?, besides columns: [Column]) -> String {
        let file = URL(filePath: path)
        let stem = file.pathExtension == "safetensors" ? file.deletingPathExtension() : file
        let name = stem.lastPathComponent + (bits.map { "-\($0.rawValue)" } ?? "")
        let taken = Set(columns.map(\.transformer.name))
        let candidates = [name] + (2...taken.count + 2).map { "\(name)-\($0)" }
        return candidates.first { !taken.contains($0) } ?? name
    }

    /// The transformers, the model's own first; their seconds are not known yet.
    public var transformers: [ComparisonReport.Transformer] { columns.map(\.transformer) }

    /// Makes the pictures, one after the other, each by all transformers.
    ///
    /// - Parameter request: which pictures.
    /// - Returns: what happens, as it happens. Ending the loop, or cancelling the task that it runs in, stops the work
    ///   before the next block; what came before stays valid.
    public func callAsFunction(_ request: ComparisonRequest) -> AsyncThrowingStream<ComparisonEvent, any Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                do {
                    try await run(request) { continuation.yield($0) }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    private func run(_ request: ComparisonRequest, emit: @Sendable (ComparisonEvent) -> Void) async throws {
        try request.check()
        let count = request.prompts.count * request.seedsPerPrompt
        var pace = ComparisonPace(pictures: count, columns: columns.count)
        var report: ComparisonReport?
        for (number, prompt) in request.prompts.enumerated() {
            let text = try await columns[0].pipeline.encodeText(request.request(prompt: prompt, seedOffset: 0))
            for seedOffset in 0..<request.seedsPerPrompt {
                let request = request.request(prompt: prompt, seedOffset: seedOffset)
                let index = report?.pictures.count ?? 0
                let name = Self.name(number: number, prompt: prompt, seed: request.seed)
                let (record, deviations) = try await compare(request, text, index: index, name: name, &pace, emit)
                let picture = ComparisonReport.Picture(
                    name: name, prompt: prompt, seed: String(request.seed), deviations: deviations)
                let whole = Self.report(report, picture, record, transformers, pace)
                emit(.report(whole))
                report = whole
            }
        }
    }

    /// One picture by all transformers.
    ///
    /// - Returns: how the full-precision picture was made, and how far from it the others are.
    private func compare(
        _ request: FluxRequest, _ text: TextStates, index: Int, name: String, _ pace: inout ComparisonPace,
        _ emit: @Sendable (ComparisonEvent) -> Void
    ) async throws -> (GenerationRecord, [Deviation]) {
        func trace(_ number: Int, _ pace: inout ComparisonPace) async throws -> PictureTrace {
            let (pipeline, column) = (columns[number].pipeline, columns[number].transformer.name)
            let present = pace
            let trace = try await pipeline.trace(request, text: text) { now in
                emit(.progress(present.progress(now, picture: index, column: number, name: column)))
            }
            pace.add(trace.stepSeconds, column: number)
            let picture = ComparedPicture(
                index: index, column: number, name: "\(name).\(column)", picture: trace.picture)
            emit(.picture(picture))
            return trace
        }
        let reference = try await trace(0, &pace)
        var deviations: [Deviation] = []
        for number in 1..<columns.count {
            let trace = try await trace(number, &pace)
            deviations.append(Deviation(trace, from: reference, blocks: columns[number].pipeline.blockNames))
        }
        return (reference.picture.record, deviations)
    }

    /// The report so far with one more picture.
    private static func report(
        _ report: ComparisonReport?, _ picture: ComparisonReport.Picture, _ record: GenerationRecord,
        _ transformers: [ComparisonReport.Transformer], _ pace: ComparisonPace
    ) -> ComparisonReport {
        guard var report else {
            let timed = zip(transformers, pace.medians).map { transformer, seconds in
                var timed = transformer
                timed.secondsPerStep = seconds
                return timed
            }
            return ComparisonReport(record, picture, timed)
        }
        report.add(picture, secondsPerStep: pace.medians)
        return report
    }

    /// `01-red-apple-seed-1`: of the prompt as much as is readable in a file's name.
    private static func name(number: Int, prompt: String, seed: UInt64) -> String {
        let plain = prompt.folding(options: [.diacriticInsensitive, .caseInsensitive], locale: nil).lowercased()
        let words = plain.split { !($0.isASCII && ($0.isLetter || $0.isNumber)) }
        let digits = number < 9 ? "0\(number + 1)" : "\(number + 1)"
        return
            ([digits] + words.joined(separator: "-").prefix(40).split(separator: "-").map(String.init)
            + ["seed-\(seed)"]).joined(separator: "-")
    }
}

extension FluxConfig {
    /// The sizes that tell one model from another, as an error message names them.
    fileprivate var inWords: String {
        "\(doubleBlocks) double and \(singleBlocks) single blocks, \(heads) heads of \(headDim), "
            + "\(inChannels) channels, text of \(jointAttentionDim) and \(pooledProjectionDim), "
            + "\(guidanceEmbeds ? "guidance" : "no guidance")"
    }
}
