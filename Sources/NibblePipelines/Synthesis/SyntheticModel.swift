internal import Foundation
public import NibbleCheckpoints
internal import NibbleModels
internal import NibbleTensors
internal import NibbleTokenizers

/// A model of random, well-scaled weights, made of its configurations alone: what a machine does with it is what it does
/// with the real one, which one need not have for that.
///
/// Names, shapes and types are what the networks themselves ask for.
public struct SyntheticModel: Sendable {
    /// What the weights are.
    public enum Format: String, Sendable, CaseIterable {
        /// 16 bits, under diffusers' and transformers' names, in files of at most 10 GB.
        case bf16
        /// A 4-bit transformer as Nunchaku's single file; T5 in 4 bits.
        case nunchaku
        /// A 4-bit transformer in the kernels' order, which is only mapped; T5 in 4 bits.
        case nibble
    }

    /// A network and what its weights are.
    struct Part: Sendable {
        /// Nil: the transformer alone, without a folder of its own.
        let component: ModelFolder.Component?
        let weights: Weights
        let configuration: String
    }

    enum Weights: Sendable {
        case plain([TensorDeclaration], stem: String)
        case quantized(RandomInt4Weights, Int4Form, stem: String)
    }

    /// The folder of the configurations.
    public let source: String
    /// What the weights are.
    public let format: Format
    /// Other numbers for another seed.
    public let seed: UInt64
    /// The folder that the tokenizers come from: that of the configurations, or the one that stands in for it; nil where
    /// there is only a transformer.
    public let tokenizers: String?

    let parts: [Part]

    /// Reads and checks the configurations.
    ///
    /// - Parameters:
    ///   - configurations: a folder in diffusers' layout, whose weights may be missing; or a folder with the transformer's
    ///     `config.json` or `transformer/config.json` alone.
    ///   - format: what the weights are going to be.
    ///   - seed: other numbers for another seed.
    ///   - standIn: a model whose tokenizers are taken where the folder has none.
    /// - Throws: `CheckpointError`, `TokenizerError`, `PipelineError` for what no model has, and for components that do
    ///   not fit each other.
    public init(
        configurations: String, format: Format, seed: UInt64 = 0, tokenizersOf standIn: String? = nil
    ) throws {
        source = configurations
        self.format = format
        self.seed = seed
        let indexPath = configurations + "/model_index.json"
        guard FileManager.default.fileExists(atPath: indexPath) else {
            parts = [try Self.transformerAlone(in: configurations, format: format, seed: seed)]
            tokenizers = nil
            return
        }
        let folder = try ModelFolder(configurations)
        try Self.checkConsistency(of: folder)
        parts = [
            try Self.transformer(
                folder.configurationText(.transformer), path: Self.configPath(folder, .transformer), .transformer,
                format: format, seed: seed),
            try Self.textEncoder2(folder, format: format, seed: seed),
            try Self.part(.textEncoder, of: folder, stem: "model") { source, path in
                let config = try decodeConfiguration(path, as: CLIPTextConfig.self)
                _ = try CLIPTextModel(config, weights: WeightReader(source))
            },
            try Self.part(.vae, of: folder, stem: "diffusion_pytorch_model") { source, path in
                let config = try decodeConfiguration(path, as: AutoencoderConfig.self)
                _ = try AutoencoderKL(config, weights: WeightReader(source))
            },
        ]
        tokenizers = try Self.tokenizers(for: folder, standIn: standIn)
    }

    /// Bytes of all tensors.
    public var byteCount: Int { parts.reduce(0) { $0 + $1.weights.byteCount } }

    /// Bytes of a component's tensors; nil where the model has no such network.
    public func byteCount(of component: ModelFolder.Component) -> Int? {
        parts.first { ($0.component ?? .transformer) == component }?.weights.byteCount
    }
}

extension SyntheticModel.Weights {
    var byteCount: Int {
        switch self {
        case .plain(let tensors, _): tensors.reduce(0) { $0 + $1.byteCount }
        case .quantized(let weights, let form, _): weights.byteCount(as: form)
        }
    }
}

// MARK: - Networks

extension SyntheticModel {
    private static func configPath(_ folder: ModelFolder, _ component: ModelFolder.Component) -> String {
        folder.folder(component) + "/config.json"
    }

    /// The tensors that a network asks for.
    private static func part(
        _ component: ModelFolder.Component, of folder: ModelFolder, stem: String,
        opening open: (_ source: ZeroWeights, _ path: String) throws -> Void
    ) throws -> Part {
        let path = configPath(folder, component)
        let asked = ZeroWeights(location: path)
        let configuration = try folder.configurationText(component)
        try open(asked, path)
        return Part(
            component: component, weights: .plain(asked.declarations, stem: stem), configuration: configuration)
    }

    private static func transformer(
        _ configuration: String, path: String, _ component: ModelFolder.Component?, format: Format, seed: UInt64
    ) throws -> Part {
        let config = try decodeConfiguration(Data(configuration.utf8), path: path, as: FluxConfig.self)
        // Opened in 16 bits whatever it is going to be: this refuses what no transformer has.
        let asked = ZeroWeights(location: path)
        _ = try FluxTransformer(config, weights: WeightReader(asked))
        let stem = "diffusion_pytorch_model"
        func quantized(_ form: Int4Form) throws -> Weights {
            .quantized(try RandomInt4Weights(transformer: configuration, path: path, seed: seed), form, stem: stem)
        }
        let weights: Weights =
            switch format {
            case .bf16: .plain(asked.declarations, stem: stem)
            case .nunchaku: try quantized(.nunchaku)
            case .nibble: try quantized(.nibble)
            }
        return Part(component: component, weights: weights, configuration: configuration)
    }

    private static func transformerAlone(in folder: String, format: Format, seed: UInt64) throws -> Part {
        let nested = folder + "/transformer/config.json"
        let path = FileManager.default.fileExists(atPath: nested) ? nested : folder + "/config.json"
        guard let bytes = FileManager.default.contents(atPath: path) else {
            throw CheckpointError.missingFile(path: folder + "/model_index.json", neededBy: "a model")
        }
        return try transformer(String(decoding: bytes, as: UTF8.self), path: path, nil, format: format, seed: seed)
    }

    private static func textEncoder2(_ folder: ModelFolder, format: Format, seed: UInt64) throws -> Part {
        let plain = try part(.textEncoder2, of: folder, stem: "model") { source, path in
            _ = try T5Encoder(decodeConfiguration(path, as: T5Config.self), weights: WeightReader(source))
        }
        guard format != .bf16 else { return plain }
        let path = configPath(folder, .textEncoder2)
        let config = try T5Config(json: plain.configuration, path: path)
        guard config.activation == .geluTanh else {
            throw CheckpointError.wrongConfiguration(
                path: path, key: "dense_act_fn", found: "\(config.activation)",
                expected: "gelu_new: 4-bit layers know no other")
        }
        let weights = try RandomInt4Weights(textEncoder: plain.configuration, path: path, seed: seed)
        return Part(
            component: .textEncoder2, weights: .quantized(weights, .nibble, stem: "model"),
            configuration: plain.configuration)
    }

    /// Throws where the components are not of one model: it would not run.
    private static func checkConsistency(of folder: ModelFolder) throws {
        let transformer = try folder.config(.transformer, as: FluxConfig.self)
        let autoencoder = try folder.config(.vae, as: AutoencoderConfig.self)
        let clip = try folder.config(.textEncoder, as: CLIPTextConfig.self)
        let t5 = try folder.config(.textEncoder2, as: T5Config.self)
        _ = try FlowMatchEulerDiscreteScheduler(
            folder.config(.scheduler, as: FlowMatchEulerDiscreteScheduler.Configuration.self))
        for (key, found, other, expected) in [
            (
                "in_channels", transformer.inChannels, "four times the autoencoder's 'latent_channels'",
                4 * autoencoder.latentChannels
            ),
            ("out_channels", transformer.outChannels, "'in_channels'", transformer.inChannels),
            ("joint_attention_dim", transformer.jointAttentionDim, "the second text encoder's 'd_model'", t5.hidden),
            ("pooled_projection_dim", transformer.pooledProjectionDim, "the text encoder's 'hidden_size'", clip.hidden),
        ] where found != expected {
            throw PipelineError.inconsistentModel(
                path: configPath(folder, .transformer), reason: "'\(key)' is \(found), but \(other) is \(expected)")
        }
    }

    /// The folder whose tokenizers fit the text encoders.
    private static func tokenizers(for folder: ModelFolder, standIn: String?) throws -> String {
        let isThere = [ModelFolder.Component.tokenizer, .tokenizer2].allSatisfy {
            FileManager.default.fileExists(atPath: folder.folder($0))
        }
        let other = standIn.flatMap { FileManager.default.fileExists(atPath: $0) ? $0 : nil }
        let origin = isThere ? folder : try other.map { try ModelFolder($0) } ?? folder
        let clip = try folder.config(.textEncoder, as: CLIPTextConfig.self)
        let t5 = try folder.config(.textEncoder2, as: T5Config.self)
        for (files, found, expected) in [
            (
                ModelFolder.Component.tokenizer, try CLIPTokenizer(folder: origin.url(.tokenizer)).vocabularySize,
                clip.vocabularySize
            ),
            (.tokenizer2, try T5Tokenizer(folder: origin.url(.tokenizer2)).vocabularySize, t5.vocabularySize),
        ] where found > expected {
            throw PipelineError.inconsistentModel(
                path: origin.folder(files),
                reason: "the tokenizer has \(found) tokens, but the text encoder's 'vocab_size' is \(expected)"
                    + (isThere ? "" : "; put a tokenizer of the model's own into \(folder.folder(files))"))
        }
        return origin.path
    }
}
