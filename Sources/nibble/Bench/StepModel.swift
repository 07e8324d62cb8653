internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleHub
internal import NibbleModels
internal import NibbleTensors

/// A transformer of random weights.
struct RandomModelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Folder with a transformer's config.json, or a name of the Hugging Face Hub.",
            valueName: "folder or name"),
        completion: .directory)
    var config: String?
    @Option(help: "Double blocks.")
    var double: Int = 2
    @Option(help: "Single blocks.")
    var single: Int = 4
    @Option(help: "Pixels.")
    var width: Int = 256
    @Option(help: "Pixels.")
    var height: Int = 256
    @Option(help: "Tokens of the prompt.")
    var textTokens: Int = 512
    @Option(help: "Type of the weights, and the numbers to compute in; around 4-bit layers those are bf16.")
    var weights = WeightType.bf16

    /// The numbers that the network computes in.
    var precision: Precision { weights == .f32 ? .f32 : .bf16 }

    mutating func validate() throws {
        for (name, value) in [("--width", width), ("--height", height)] { try checkSize(name, value, 16...16_384) }
        try checkSize("--text-tokens", textTokens, 1...65_536)
        for (name, value) in [("--double", double), ("--single", single)] { try checkSize(name, value, 0...65_536) }
    }
}

/// What random weights are of.
enum WeightType: String, ExpressibleByArgument, CaseIterable {
    case f32, bf16, int4
}

/// A transformer of a file, and what it is given.
struct GivenModelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A transformer: folder, safetensors file, or a name of the Hugging Face Hub.", valueName: "path or name"),
        completion: .file())
    var transformer: String?
    @Option(
        help: ArgumentHelp("Folder of the inputs. Default: random ones.", valueName: "folder"),
        completion: .directory)
    var inputs: String?
    @Flag(help: "Let each block's weights go after its use, as for a model larger than memory.")
    var stream = false

    /// What becomes of a block's weights after its use.
    var residency: Residency { stream ? .stream : .keep }

    mutating func validate() throws {
        guard inputs == nil || transformer != nil else {
            throw ValidationError("--inputs are for a model that --transformer names")
        }
    }
}

/// In what numbers 4-bit layers and attention are computed.
struct NumberOptions: ParsableArguments {
    @Option(help: "What the inputs of 4-bit layers are quantized to.")
    var activations = ActivationBits.int4
    @Option(help: "What attention multiplies. Default: int8 beside 4-bit weights where it can be had, else bf16.")
    var attention: AttentionPrecision?

    /// What a transformer is computed with.
    func compute(_ transformer: FluxTransformer, _ precision: Precision, on pool: ThreadPool) -> Compute {
        Compute(
            precision: precision, activationBits: activations,
            attentionPrecision: attention
                ?? .automatic(isQuantized: transformer.isQuantized, precision: precision), pool: pool)
    }
}

/// A transformer and what it predicts from, as the options say.
struct StepModel {
    let transformer: FluxTransformer
    let inputs: FluxTransformer.Inputs
    /// What both are computed with.
    let compute: Compute
    /// For people.
    let description: String

    /// - Parameters:
    ///   - random: what random weights are of, where no transformer is given.
    ///   - given: a transformer and inputs.
    ///   - numbers: in what numbers it is computed.
    ///   - isQuiet: no progress while a model is fetched.
    ///   - pool: the threads.
    /// - Throws: what is wrong with the model, the inputs or the options.
    init(
        _ random: RandomModelOptions, _ given: GivenModelOptions, _ numbers: NumberOptions, isQuiet: Bool,
        on pool: ThreadPool
    ) async throws {
        // Before a model is fetched and opened for nothing.
        try checkAttention(numbers.attention, random.precision)
        let fetcher = ModelFetcher(isQuiet: isQuiet)
        if let path = given.transformer {
            transformer = try Self.given(try await fetcher.transformer(path), on: pool)
        } else {
            transformer = try await random.transformer(fetcher, on: pool)
        }
        compute = numbers.compute(transformer, random.precision, on: pool)
        let config = transformer.config
        inputs = try given.inputs.map { try Self.givenInputs($0, config) } ?? random.inputs(config)
        description =
            (transformer.isQuantized ? "4-bit step, \(numbers.activations) activations, " : "step, ")
            + (compute.attentionPrecision == .int8 ? "int8 attention, " : "")
            + "\(inputs.latents.rows) + \(inputs.text.rows) tokens, \(config.doubleBlocks) + "
            + "\(config.singleBlocks) blocks"
    }

    /// Multiply-adds of a prediction.
    var multiplyAdds: Double {
        transformer.multiplyAdds(imageTokens: inputs.latents.rows, textTokens: inputs.text.rows)
    }

    /// Whose limit counts; nil: that of the precision.
    var operand: MachineLimits.Operand? { transformer.isQuantized ? .int8 : nil }

    private static func given(_ path: String, on pool: ThreadPool) throws -> FluxTransformer {
        if Checkpoint.int4Form(of: path) != nil {
            let checkpoint = try Checkpoint.openInt4(path)
            return try FluxTransformer(checkpoint.config(as: FluxConfig.self), quantized: checkpoint, on: pool)
        }
        let source = try Checkpoint.open(path)
        let hasConfig = FileManager.default.fileExists(atPath: path + "/config.json")
        let config =
            try hasConfig
            ? transformerConfig(in: path) : FluxConfig(FluxDimensions(of: source), axes: FluxConfig().axesDimsRope)
        return try FluxTransformer(config, weights: WeightReader(source))
    }

    private static func givenInputs(_ folder: String, _ config: FluxConfig) throws -> FluxTransformer.Inputs {
        func values(_ name: String, columns: Int) throws -> Tensor {
            let file = "\(folder)/\(name).f32"
            let storage = try Storage(mapping: file)
            guard storage.byteCount > 0, storage.byteCount % (4 * columns) == 0 else {
                throw InputError(file, "found \(storage.byteCount) bytes; expected rows of \(columns) f32 numbers")
            }
            return Tensor(storage: storage, shape: [storage.byteCount / (4 * columns), columns], dtype: .float32)
        }
        let places = try (values("txt_ids", columns: 3).floats() + values("img_ids", columns: 3).floats())
        let latents = try values("hidden_states", columns: config.inChannels)
        let text = try values("encoder_hidden_states", columns: config.jointAttentionDim)
        let pooled = try values("pooled_projections", columns: config.pooledProjectionDim)
        guard places.count == 3 * (latents.rows + text.rows), pooled.rows == 1 else {
            throw InputError(
                folder, "txt_ids and img_ids hold \(places.count / 3) places for \(text.rows) + \(latents.rows) tokens")
        }
        return FluxTransformer.Inputs(
            latents: latents, text: text, pooled: pooled,
            timestep: try values("timestep", columns: 1).floats()[0] * 1000,
            guidance: config.guidanceEmbeds ? try values("guidance", columns: 1).floats()[0] * 1000 : 0,
            rotary: FluxRotary.angles(
                places: stride(from: 0, to: places.count, by: 3).map {
                    SIMD3(places[$0], places[$0 + 1], places[$0 + 2])
                }, axes: config.axesDimsRope))
    }
}

extension RandomModelOptions {
    fileprivate func transformer(_ fetcher: ModelFetcher, on pool: ThreadPool) async throws -> FluxTransformer {
        var config = FluxConfig()
        config.guidanceEmbeds = true
        if let folder = self.config {
            config = try transformerConfig(
                in: try await fetcher.path(of: folder) { NeededFiles.transformerConfiguration($0) })
        }
        config.doubleBlocks = double
        config.singleBlocks = single
        guard weights == .int4 else {
            let type: DType = weights == .f32 ? .float32 : .bfloat16
            return try FluxTransformer(config, weights: WeightReader(RandomWeights(dtype: type)))
        }
        guard config.hidden.isMultiple(of: RandomInt4Weights.widthMultiple) else {
            throw InputError(
                self.config ?? "",
                "its layers are \(config.hidden) wide; 4-bit ones are multiples of "
                    + "\(RandomInt4Weights.widthMultiple)")
        }
        let checkpoint = RandomInt4Weights(
            doubleBlocks: config.doubleBlocks, singleBlocks: config.singleBlocks, heads: config.heads,
            headDim: config.headDim)
        return try FluxTransformer(config, quantized: checkpoint, on: pool)
    }

    fileprivate func inputs(_ config: FluxConfig) throws -> FluxTransformer.Inputs {
        let source = RandomWeights(dtype: .float32)
        let (rows, columns) = (height / 16, width / 16)
        return FluxTransformer.Inputs(
            latents: try source.tensor("latents", expecting: [rows * columns, config.inChannels]),
            text: try source.tensor("text", expecting: [textTokens, config.jointAttentionDim]),
            pooled: try source.tensor("pooled", expecting: [1, config.pooledProjectionDim]), timestep: 500,
            guidance: 3500,
            rotary: FluxRotary.angles(
                places: FluxRotary.places(textTokens: textTokens, rows: rows, columns: columns),
                axes: config.axesDimsRope))
    }
}

/// The configuration in a folder, or in the transformer's folder of a model.
private func transformerConfig(in folder: String) throws -> FluxConfig {
    let nested = folder + "/transformer/config.json"
    let path = FileManager.default.fileExists(atPath: nested) ? nested : folder + "/config.json"
    return try decodeConfiguration(path, as: FluxConfig.self)
}
