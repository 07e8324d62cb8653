internal import Foundation
internal import NibbleCheckpoints
internal import NibbleModels
internal import NibblePipelines
internal import NibbleQuantizer
internal import NibbleTensors
internal import NibbleTokenizers

/// What a quantization is asked to do.
struct QuantizationOrder {
    let folder: String
    let recipe: QuantizationRecipe
    /// What the model is shown; none where the recipe needs nothing.
    let prompts: [String]
    /// Of the file.
    let form: Int4Form
    let precision: Precision
    let threads: Int?
    let memoryLimit: Int
}

/// What is quantized: a component of a model.
protocol QuantizationSubject {
    /// The number of blocks.
    var blockCount: Int { get }

    /// The form that its blocks are put together in.
    var form: Int4Form { get }

    /// What of it the result depends on, for the journal.
    var arguments: [String: String] { get }

    /// Opens it.
    ///
    /// - Parameters:
    ///   - journal: where what it is shown is kept.
    ///   - isShown: whether blocks are going to be made, and not only put together.
    ///   - line: hears of the progress.
    /// - Returns: the network, and what writes the journal's blocks to a file.
    /// - Throws: what is wrong with the model, or with what it is shown.
    func open(
        _ journal: QuantizationJournal, isShown: Bool, _ line: QuantizationLine
    ) async throws -> (network: any QuantizableNetwork, write: (_ path: String) throws -> Void)
}

/// A FLUX.1's transformer, which is observed while it draws.
struct TransformerSubject: QuantizationSubject {
    private let order: QuantizationOrder
    private let replacement: String?
    private let model: FluxPipeline.PlainTransformer
    private let schema: Int4FluxSchema

    init(_ order: QuantizationOrder, replacement: String?) throws {
        self.order = order
        self.replacement = replacement
        model = try FluxPipeline.PlainTransformer(of: ModelFolder(order.folder), replacement: replacement)
        schema = try Int4FluxSchema(configuration: model.configuration, path: model.source.location)
    }

    var blockCount: Int { model.config.doubleBlocks + model.config.singleBlocks }

    var form: Int4Form { .nunchaku }

    var arguments: [String: String] { ["model": WeightReader(model.source).fingerprint] }

    func open(
        _ journal: QuantizationJournal, isShown: Bool, _ line: QuantizationLine
    ) async throws -> (network: any QuantizableNetwork, write: (_ path: String) throws -> Void) {
        let network = try FluxNetwork(
            model.source, config: model.config, schema: schema,
            calibration: isShown ? try await calibration(journal, line) : nil)
        let metadata = NunchakuCheckpoint.metadata(
            configuration: model.configuration, rank: order.recipe.rank)
        return (
            network,
            { path in try network.write(to: path, journal, metadata: metadata) { try Task.checkCancellation() } }
        )
    }

    /// What the model sees while it draws: from the journal, or drawn now.
    private func calibration(
        _ journal: QuantizationJournal, _ line: QuantizationLine
    ) async throws -> CalibrationInputs? {
        let recipe = order.recipe
        guard recipe.isCalibrated else { return nil }
        if let kept = try journal.calibration() { return kept }
        var options = FluxPipeline.Options()
        options.precision = order.precision
        options.threads = order.threads
        options.memoryLimit = order.memoryLimit
        options.transformer = replacement
        let pipeline = try FluxPipeline(model: order.folder, options: options)
        let side = recipe.size ?? min(512, pipeline.standardSide)
        let requests = order.prompts.enumerated().map { index, prompt in
            FluxRequest(
                prompt: prompt, steps: recipe.steps, width: side, height: side, seed: recipe.seed &+ UInt64(index))
        }
        let recorded = try await pipeline.recordInputs(of: requests) { line.show($0) }
        let calibration = CalibrationInputs(trajectories: recorded, samples: recipe.samples)
        try journal.keep(calibration)
        return calibration
    }
}

/// A FLUX.1's T5 encoder, which is observed while it reads.
struct TextEncoderSubject: QuantizationSubject {
    private let source: any TensorSource
    private let configuration: String
    private let prompts: [[Int32]]
    let blockCount: Int
    let form = Int4Form.nibble

    init(_ order: QuantizationOrder) throws {
        let folder = try ModelFolder(order.folder)
        try Checkpoint.checkIsPlain(folder.folder(.textEncoder2), "T5 encoder")
        source = try folder.weights(.textEncoder2)
        blockCount = try folder.config(.textEncoder2, as: T5Config.self).layers
        configuration = try folder.configurationText(.textEncoder2)
        let tokenizer = try T5Tokenizer(folder: folder.url(.tokenizer2))
        // As a picture's prompt is read.
        let length = min(tokenizer.modelMaxLength ?? FluxRequest.longestText, FluxRequest.longestText)
        let read = order.prompts.map { tokenizer.encode($0, length: length) }
        // Prompts are short and their padding is long: what they teach of a layer's inputs is a few hundred tokens, and a
        // layer fitted to those alone fails at others. As many passages of the whole vocabulary in random order go beside.
        let vocabulary = order.recipe.permutation(of: tokenizer.vocabularySize)
        let filled = read.indices.map { passage in
            (0..<length).map { Int32(vocabulary[(passage * length + $0) % vocabulary.count]) }
        }
        prompts = read + filled
    }

    var arguments: [String: String] {
        [
            "component": QuantizationRecipe.Component.textEncoder2.rawValue,
            "model": WeightReader(source).fingerprint, "tokens of a prompt": "\(prompts.first?.count ?? 0)",
        ]
    }

    func open(
        _ journal: QuantizationJournal, isShown: Bool, _ line: QuantizationLine
    ) async throws -> (network: any QuantizableNetwork, write: (_ path: String) throws -> Void) {
        let network = try T5Network(source, configuration: configuration, prompts: isShown ? prompts : [])
        return (network, { path in try network.write(to: path, journal) { try Task.checkCancellation() } })
    }
}
