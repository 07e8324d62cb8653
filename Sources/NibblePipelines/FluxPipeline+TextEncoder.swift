internal import Foundation
internal import NibbleCheckpoints
internal import NibbleModels
internal import NibbleTensors
internal import NibbleTokenizers

extension FluxPipeline {
    /// The folder's T5, or the one that takes its place.
    ///
    /// - Parameters:
    ///   - options: how the pipeline works.
    ///   - folder: the model.
    ///   - pool: the threads that bring layers into order, where that is needed.
    /// - Returns: the encoder, its weights mapped.
    /// - Throws: `CheckpointError`; `PipelineError.inconsistentModel` for an encoder of another model.
    static func openTextEncoder2(
        _ options: Options, in folder: ModelFolder, on pool: ThreadPool
    ) throws -> T5Encoder {
        let own = try folder.config(.textEncoder2, as: T5Config.self)
        let path = options.textEncoder2 ?? folder.folder(.textEncoder2)
        if options.textEncoder2 == nil, Checkpoint.int4Form(of: path) == nil {
            return try T5Encoder(own, weights: WeightReader(folder.weights(.textEncoder2)))
        }
        let encoder = try openTextEncoder2(path, like: own, on: pool)
        for (key, found, expected) in [
            ("d_model", encoder.config.hidden, own.hidden),
            ("vocab_size", encoder.config.vocabularySize, own.vocabularySize),
        ] where found != expected {
            throw PipelineError.inconsistentModel(
                path: path,
                reason: "this text encoder's '\(key)' is \(found), but that of the model's own is \(expected) "
                    + "(\(folder.folder(.textEncoder2))); was it made from this model?")
        }
        return encoder
    }

    /// Opens a T5: in 4 bits, or a folder, or a single file of the model's own configuration.
    private static func openTextEncoder2(
        _ path: String, like own: T5Config, on pool: ThreadPool
    ) throws -> T5Encoder {
        if Checkpoint.int4Form(of: path) != nil {
            return try T5Encoder(quantized: Checkpoint.openInt4(path), on: pool)
        }
        let source = try Checkpoint.open(path)
        let file = path + "/config.json"
        let hasFile = FileManager.default.fileExists(atPath: file)
        return try T5Encoder(
            hasFile ? decodeConfiguration(file, as: T5Config.self) : own, weights: WeightReader(source))
    }

    /// Runs T5, whose weights are not held afterwards.
    func encodeT5(_ prompt: String, length: Int) throws -> Tensor {
        let encoder = try Self.openTextEncoder2(options, in: folder, on: compute.pool)
        try check(t5Tokenizer, .tokenizer2, fits: encoder.config.vocabularySize, of: .textEncoder2)
        let residency = memory.residency(
            weights: encoder.weights.mappedWeights, activations: encoder.activationBytes(tokens: length))
        let ids = t5Tokenizer.encode(prompt, length: length)
        let states = try encoder(ids, residency: residency, on: compute) { _ in try Task.checkCancellation() }
        try check(states, of: "T5", encoder.weights)
        return states
    }

    /// Throws where a tokenizer has tokens that its text encoder has no vector for: it is another model's.
    func check(
        _ tokenizer: some Tokenizer, _ files: ModelFolder.Component, fits vocabularySize: Int,
        of encoder: ModelFolder.Component
    ) throws(PipelineError) {
        guard tokenizer.vocabularySize <= vocabularySize else {
            throw .inconsistentModel(
                path: folder.folder(files),
                reason: "the tokenizer has \(tokenizer.vocabularySize) tokens, but 'vocab_size' of "
                    + "\(folder.folder(encoder)) is \(vocabularySize); do they belong to the same model?")
        }
    }
}
