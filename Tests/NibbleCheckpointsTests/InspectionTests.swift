import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// What a checkpoint is said to be.
@Suite struct InspectionTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func kind(
        _ tensors: [(String, DType, Shape)], metadata: [String: String] = [:]
    ) throws -> CheckpointKind {
        let path = folder.path + "/a.safetensors"
        let list = tensors.map { TensorDeclaration(name: $0.0, dtype: $0.1, shape: $0.2) }
        let writer = try SafetensorsWriter(path, tensors: list, metadata: metadata)
        for item in list { try writer.write(item.name, Tensor(zeros: item.shape, item.dtype)) }
        try writer.finish()
        return try Inspection(path).components[0].kind
    }

    @Test func kindsByNames() throws {
        let linear = "transformer_blocks.0.qkv_proj"
        #expect(try kind([("x", .float32, [1])]) == .unknown)
        #expect(
            try kind([("\(linear).qweight", .int8, [4, 2]), ("\(linear).lora_down", .bfloat16, [4, 16])])
                == .svdQuant(precision: .int4, rank: 16, modelClass: nil))
        #expect(
            try kind(
                [
                    ("\(linear).qweight", .int8, [4, 2]), ("\(linear).wscales", .float8E4M3, [1, 4]),
                    ("\(linear).proj_down", .bfloat16, [4, 32]),
                ], metadata: ["model_class": "NunchakuFluxTransformer2dModel"])
                == .svdQuant(precision: .nvfp4, rank: 32, modelClass: "NunchakuFluxTransformer2dModel"))
        #expect(
            try kind([
                ("transformer_blocks.0.attn.to_q.qweight", .int8, [4, 2]),
                ("transformer_blocks.0.attn.to_q.proj_down", .bfloat16, [4, 16]),
            ]) == .nunchakuLite(precision: .int4, rank: 16))
        #expect(
            try kind(
                [("\(linear).codes", .uint8, [1, 8, 64]), ("\(linear).down", .bfloat16, [32, 16, 2])],
                metadata: ["format": "nibble"]) == .nibble(rank: 16))
        #expect(try kind([("encoder.block.0.layer.0.SelfAttention.q.qweight", .int32, [1])]) == .awq)
        for name in [
            "transformer.transformer_blocks.0.attn.to_q.lora_A.weight", "lora_unet_double_blocks_0_img_mlp_0.alpha",
            "double_blocks.0.processor.qkv_lora1.lora_down.weight",
        ] { #expect(try kind([(name, .bfloat16, [1])]) == .lora) }
        #expect(
            try kind([
                ("decoder.conv_in.weight", .float32, [1]), ("encoder.conv_in.weight", .float32, [1]),
                ("decoder.mid.block_1.conv1.weight", .float32, [1]),
            ]) == .autoencoderKL(originalNames: true))
    }

    @Test func fourBitCodesCountTwice() throws {
        let kind = CheckpointKind.svdQuant(precision: .int4, rank: 16, modelClass: nil)
        func count(_ name: String, _ dtype: DType, _ shape: Shape) -> Int {
            let bytes = shape.elementCount * dtype.byteSize
            return kind.parameterCount(of: TensorEntry(name: name, dtype: dtype, shape: shape, byteRange: 0..<bytes))
        }
        // [out, in / 2] bytes, and for the modulations [out / 4, in / 2] words of 8 codes: 128 x 64 weights each.
        #expect(count("a.qweight", .int8, [128, 32]) == 128 * 64)
        #expect(count("a.qweight", .int32, [32, 32]) == 128 * 64)
        // [out / 16, in / 8, 64] bytes.
        #expect(count("a.codes", .uint8, [8, 8, 64]) == 128 * 64 && count("a.scales", .bfloat16, [8, 1, 16]) == 0)
        #expect(count("a.wscales", .bfloat16, [1, 128]) == 0 && count("a.bias", .bfloat16, [128]) == 128)
    }

    @Test(
        .enabled(if: !Goldens.fluxModels.isEmpty, "no golden model beside the repository"),
        arguments: Goldens.fluxModels)
    func goldenModels(_ root: URL) throws {
        struct Transformer: Decodable {
            let layers: Int
            let single: Int
            let guidance: Bool
            enum CodingKeys: String, CodingKey {
                case layers = "num_layers"
                case single = "num_single_layers"
                case guidance = "guidance_embeds"
            }
        }
        struct Text: Decodable {
            let layers: Int
            enum CodingKeys: String, CodingKey { case layers = "num_hidden_layers" }
        }
        struct T5: Decodable {
            let layers: Int
            enum CodingKeys: String, CodingKey { case layers = "num_layers" }
        }
        let path = root.appending(path: "model").path
        let model = try ModelFolder(path)
        let inspection = try Inspection(path)
        #expect(inspection.pipeline == "FluxPipeline" && inspection.missingComponents.isEmpty)
        let kinds = Dictionary(uniqueKeysWithValues: inspection.components.map { ($0.name, $0.kind) })
        #expect(Set(kinds.keys) == ["text_encoder", "text_encoder_2", "transformer", "vae"])
        #expect(
            kinds["text_encoder"] == .clipTextModel(layers: try model.config(.textEncoder, as: Text.self).layers))
        #expect(kinds["text_encoder_2"] == .t5Encoder(layers: try model.config(.textEncoder2, as: T5.self).layers))
        #expect(kinds["vae"] == .autoencoderKL(originalNames: false))
        let configuration = try model.config(.transformer, as: Transformer.self)
        let dimensions = try FluxDimensions(of: model.weights(.transformer))
        #expect(dimensions.numLayers == configuration.layers && dimensions.numSingleLayers == configuration.single)
        #expect(dimensions.guidanceEmbeds == configuration.guidance)
        #expect(kinds["transformer"] == .fluxTransformer(dimensions, originalNames: false))
        #expect(try inspection.verify(on: ThreadPool(threadCount: 2)) == [])
    }

    @Test func foldersOfOtherFilesAndMissingParts() throws {
        try folder.write("one.safetensors", safetensors("{}"))
        try folder.write("two.safetensors", safetensors("{}"))
        #expect(try Inspection(folder.path).components.map(\.name) == ["one.safetensors", "two.safetensors"])
        try folder.write(
            "model_index.json",
            #"{"_class_name":"X","vae":["a","b"],"unet":["a","b"],"../x":["a","b"],"none":[null,null],"n":1}"#)
        try folder.write("vae/model.safetensors", safetensors("{}"))
        let inspection = try Inspection(folder.path)
        #expect(inspection.pipeline == "X" && inspection.missingComponents == ["unet"])
        #expect(inspection.components.map(\.name) == ["vae"])
    }
}

/// NaN and infinity, told by the bits that IEEE 754 and OCP FP8 give them.
@Suite struct VerificationTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// Bits of NaNs, of infinities, and of numbers close to either, little-endian.
    static let patterns: [(DType, nan: [UInt64], infinite: [UInt64], finite: [UInt64])] = [
        (
            .float32, [0x7f80_0001, 0x7fc0_0000, 0xffff_ffff], [0x7f80_0000, 0xff80_0000],
            [0x7f7f_ffff, 0xff7f_ffff, 1, 0]
        ),
        (.float16, [0x7c01, 0x7e00, 0xffff], [0x7c00, 0xfc00], [0x7bff, 0xfbff, 1, 0x8000]),
        (.bfloat16, [0x7f81, 0x7fc0, 0xffff], [0x7f80, 0xff80], [0x7f7f, 0xff7f, 1, 0x8000]),
        (
            .float64, [0x7ff0_0000_0000_0001, 0x7ff8_0000_0000_0000, .max],
            [0x7ff0_0000_0000_0000, 0xfff0_0000_0000_0000], [0x7fef_ffff_ffff_ffff, 0xffef_ffff_ffff_ffff, 1, 0]
        ),
        (.float8E4M3, [0x7f, 0xff], [], [0x7e, 0xfe, 0x78, 0, 0x80]),
        (.float8E5M2, [0x7d, 0x7e, 0xff], [0x7c, 0xfc], [0x7b, 0xfb, 0, 1]),
    ]

    private func bytes(_ patterns: [UInt64], _ dtype: DType) -> [UInt8] {
        patterns.flatMap { value in (0..<dtype.byteSize).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    }

    @Test(arguments: patterns.indices) func countsEveryFloatType(_ index: Int) {
        let (dtype, nan, infinite, finite) = Self.patterns[index]
        func count(_ patterns: [UInt64]) -> NonFiniteCount {
            bytes(patterns, dtype).withUnsafeBytes { NonFiniteScan.count($0, dtype) }
        }
        #expect(count(finite) == NonFiniteCount())
        #expect(count(nan) == NonFiniteCount(nan: nan.count))
        #expect(count(infinite) == NonFiniteCount(infinite: infinite.count))
        // Among many numbers, at the edges of the blocks that are tested at once.
        for place in [0, 1, 4095, 4096, 4097, 9999] {
            var many = [UInt64](repeating: finite[0], count: 10_000)
            many[place] = nan[0]
            #expect(count(many) == NonFiniteCount(nan: 1))
        }
    }

    @Test func floatTypesAreAllHere() {
        #expect(Set(Self.patterns.map(\.0)) == Set(DType.allCases.filter(\.isFloatingPoint)))
    }

    @Test(arguments: [1, 3]) func namesTensors(_ threads: Int) throws {
        let path = folder.path + "/a.safetensors"
        // Larger than what one worker reads at a time, so that the tensor is in pieces.
        var values = [Float](repeating: 1, count: 700_000)
        values[131_071] = .nan
        values[131_072] = .infinity
        values[699_999] = -.infinity
        let ones = Tensor(zeros: [16], .int8)
        ones.mutableAddress.copyMemory(from: [UInt8](repeating: 0xff, count: 16), byteCount: 16)
        try SafetensorsWriter.write(
            [
                "good": Tensor([1, 2], shape: [2]), "bad": Tensor(values, shape: [700, 1000]), "integers": ones,
                "worse": Tensor([.nan], shape: [1]), "empty": Tensor(zeros: [0], .float32),
            ], to: path)
        var last = (0, 0)
        let findings = try Inspection(path).verify(on: ThreadPool(threadCount: threads)) { last = ($0, $1) }
        #expect(
            findings == [
                .init(
                    component: "a.safetensors", tensor: "bad", file: path,
                    count: NonFiniteCount(nan: 1, infinite: 2)),
                .init(component: "a.safetensors", tensor: "worse", file: path, count: NonFiniteCount(nan: 1)),
            ])
        #expect(last == (2_800_028, 2_800_028))
    }

    @Test func fileCutShortMeanwhile() throws {
        let path = folder.path + "/a.safetensors"
        try SafetensorsWriter.write(["x": Tensor(zeros: [1 << 20], .float32)], to: path)
        let inspection = try Inspection(path)
        truncate(path, 1 << 20)
        #expect(
            throws: CheckpointError.inaccessible(path: path, reason: "the file was cut short while it was read")
        ) { try inspection.verify(on: ThreadPool(threadCount: 2)) }
    }
}
