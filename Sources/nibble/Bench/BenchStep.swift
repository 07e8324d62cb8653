internal import ArgumentParser
internal import Foundation
internal import NibbleCheckpoints
internal import NibbleHub
internal import NibbleModels
internal import NibbleTensors

/// `nibble bench step`: one prediction of the transformer, from random weights or from a file, on given inputs.
struct BenchStep: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "step",
        abstract: "One step of the transformer.",
        usage: """
            nibble bench step [options]
            nibble bench step --transformer <path> [--inputs <folder>] [options]
            """,
        discussion: """
            With random weights of a configuration (default: FLUX.1-dev's width, 2 double and 4 single blocks), or those \
            of '--transformer PATH'. Beside 4-bit weights the limit is that of bytes, although attention and what is not \
            quantized compute in bf16. '--inputs FOLDER' takes inputs from that folder: raw little-endian f32 files \
            hidden_states [tokens, 64], encoder_hidden_states [text, 4096], pooled_projections [768], timestep (0…1), \
            guidance, img_ids and txt_ids [tokens, 3], all named *.f32.
            """)

    @OptionGroup(title: "Random weights") var random: RandomModelOptions
    @OptionGroup(title: "A model on given inputs") var given: GivenModelOptions
    @Option(help: "What the inputs of 4-bit layers are quantized to.")
    var activations = ActivationBits.int4
    @Option(help: "What attention multiplies. Default: int8 beside 4-bit weights where it can be had, else bf16.")
    var attention: AttentionPrecision?
    @OptionGroup(title: "Measurement") var options: BenchOptions

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
    }

    /// What random weights are of.
    enum WeightType: String, ExpressibleByArgument, CaseIterable {
        case f32, bf16, int4
    }

    struct GivenModelOptions: ParsableArguments {
        @Option(
            help: ArgumentHelp(
                "A transformer: folder, safetensors file, or a name of the Hugging Face Hub.", valueName: "path or name"
            ),
            completion: .file())
        var transformer: String?
        @Option(
            help: ArgumentHelp("Folder of the inputs. Default: random ones.", valueName: "folder"),
            completion: .directory)
        var inputs: String?
        @Option(help: ArgumentHelp("Where to write the prediction, raw f32.", valueName: "file"), completion: .file())
        var output: String?
        @Flag(help: "Let each block's weights go after its use, as for a model larger than memory.")
        var stream = false
    }

    mutating func validate() throws {
        guard given.inputs == nil || given.transformer != nil else {
            throw ValidationError("--inputs are for a model that --transformer names")
        }
        for (name, value) in [("--width", random.width), ("--height", random.height)] {
            try checkSize(name, value, 16...16_384)
        }
        try checkSize("--text-tokens", random.textTokens, 1...65_536)
        for (name, value) in [("--double", random.double), ("--single", random.single)] {
            try checkSize(name, value, 0...65_536)
        }
    }

    func run() async throws {
        let pool = ThreadPool(threadCount: options.threads)
        let model = try await model(on: pool)
        let precision: Precision = random.weights == .f32 ? .f32 : .bf16
        try checkAttention(attention, precision)
        let compute = Compute(
            precision: precision, activationBits: activations,
            attentionPrecision: attention ?? .automatic(isQuantized: model.isQuantized, precision: precision),
            pool: pool)
        let inputs = try given.inputs.map { try givenInputs($0, model.config) } ?? randomInputs(model.config)
        let prediction = Tensor(zeros: [inputs.latents.rows, model.config.outChannels], .float32)
        let report = try BenchReport(
            (model.isQuantized ? "4-bit step, \(activations) activations, " : "step, ")
                + (compute.attentionPrecision == .int8 ? "int8 attention, " : "")
                + "\(inputs.latents.rows) + \(inputs.text.rows) tokens, \(model.config.doubleBlocks) + "
                + "\(model.config.singleBlocks) blocks",
            macs: model.multiplyAdds(imageTokens: inputs.latents.rows, textTokens: inputs.text.rows), on: compute,
            options, operand: model.isQuantized ? .int8 : nil
        ) {
            try model(inputs, into: prediction, residency: given.stream ? .stream : .keep, on: compute) { _ in
                try Task.checkCancellation()
            }
        }
        if let output = given.output {
            try Data(prediction.bytes).write(to: URL(filePath: output), options: .atomic)
        }
        try report.print(json: options.json)
    }

    private func model(on pool: ThreadPool) async throws -> FluxTransformer {
        let fetcher = ModelFetcher(isQuiet: options.json)
        if let transformer = given.transformer {
            return try givenModel(try await fetcher.transformer(transformer), on: pool)
        }
        var config = FluxConfig()
        config.guidanceEmbeds = true
        if let folder = random.config {
            config = try transformerConfig(
                in: try await fetcher.path(of: folder) { NeededFiles.transformerConfiguration($0) })
        }
        config.doubleBlocks = random.double
        config.singleBlocks = random.single
        guard random.weights == .int4 else {
            let type: DType = random.weights == .f32 ? .float32 : .bfloat16
            return try FluxTransformer(config, weights: WeightReader(RandomWeights(dtype: type)))
        }
        guard config.hidden.isMultiple(of: RandomInt4Weights.widthMultiple) else {
            throw InputError(
                random.config ?? "",
                "its layers are \(config.hidden) wide; 4-bit ones are multiples of "
                    + "\(RandomInt4Weights.widthMultiple)")
        }
        let checkpoint = RandomInt4Weights(
            doubleBlocks: config.doubleBlocks, singleBlocks: config.singleBlocks, heads: config.heads,
            headDim: config.headDim)
        return try FluxTransformer(config, quantized: checkpoint, on: pool)
    }

    private func randomInputs(_ config: FluxConfig) throws -> FluxTransformer.Inputs {
        let source = RandomWeights(dtype: .float32)
        let (rows, columns) = (random.height / 16, random.width / 16)
        return FluxTransformer.Inputs(
            latents: try source.tensor("latents", expecting: [rows * columns, config.inChannels]),
            text: try source.tensor("text", expecting: [random.textTokens, config.jointAttentionDim]),
            pooled: try source.tensor("pooled", expecting: [1, config.pooledProjectionDim]), timestep: 500,
            guidance: 3500,
            rotary: FluxRotary.angles(
                places: FluxRotary.places(textTokens: random.textTokens, rows: rows, columns: columns),
                axes: config.axesDimsRope))
    }

    /// The configuration in a folder, or in the transformer's folder of a model.
    private func transformerConfig(in folder: String) throws -> FluxConfig {
        let nested = folder + "/transformer/config.json"
        let path = FileManager.default.fileExists(atPath: nested) ? nested : folder + "/config.json"
        return try decodeConfiguration(path, as: FluxConfig.self)
    }

    private func givenModel(_ path: String, on pool: ThreadPool) throws -> FluxTransformer {
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

    private func givenInputs(_ folder: String, _ config: FluxConfig) throws -> FluxTransformer.Inputs {
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
