internal import Foundation
public import NibbleCheckpoints
public import NibbleModels

extension FluxPipeline {
    /// A transformer of 16- or 32-bit weights: a model's own, or one that takes its place.
    public struct PlainTransformer: Sendable {
        /// Its sizes.
        public let config: FluxConfig
        /// The text of its `config.json`; made of the sizes where there is none.
        public let configuration: String
        /// Its weights under diffusers' names.
        public let source: any TensorSource

        /// Opens a transformer.
        ///
        /// - Parameters:
        ///   - folder: the model.
        ///   - replacement: another transformer than the folder's: a folder, or a single file under diffusers' or BFL's
        ///     names.
        /// - Throws: `CheckpointError`, `PipelineError`.
        public init(of folder: ModelFolder, replacement: String? = nil) throws {
            let location = replacement ?? folder.folder(.transformer)
            try Checkpoint.checkIsPlain(location, "transformer")
            source = try replacement.map(Checkpoint.open) ?? folder.weights(.transformer)
            let path = (replacement ?? folder.folder(.transformer)) + "/config.json"
            if replacement == nil || FileManager.default.fileExists(atPath: path) {
                config = try decodeConfiguration(path, as: FluxConfig.self)
                configuration = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
            } else {
                config = try Self.config(of: source, in: folder)
                configuration = try config.json
            }
        }

        /// The sizes of a single file, which has no configuration. Its shapes tell all but the axes of the rotary
        /// embedding: those are the folder's where its heads are as wide, or FLUX.1's.
        private static func config(of source: any TensorSource, in folder: ModelFolder) throws -> FluxConfig {
            let dimensions = try FluxDimensions(of: source)
            let known = [try? folder.config(.transformer, as: FluxConfig.self), FluxConfig()].compactMap { $0 }
            guard let axes = known.first(where: { $0.headDim == dimensions.headDim })?.axesDimsRope else {
                throw PipelineError.inconsistentModel(
                    path: source.location,
                    reason:
                        "its heads are \(dimensions.headDim) wide, which no configuration at hand knows the rotary axes "
                        + "of; put it into a folder with the config.json that it was trained with")
            }
            return FluxConfig(dimensions, axes: axes)
        }
    }

    /// Pixels of the sides of the pictures that the model was made for.
    public nonisolated var standardSide: Int { autoencoderConfig.sampleSize }
}
