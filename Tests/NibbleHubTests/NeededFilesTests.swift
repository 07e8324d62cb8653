import Testing

@testable import NibbleHub

/// Which files are fetched. The list is the shape of FLUX.1-dev's: single file, folders, pictures, licence.
@Suite struct NeededFilesTests {
    private static let flux = [
        ".gitattributes", "LICENSE.md", "README.md", "ae.safetensors", "dev_grid.jpg", "flux1-dev.safetensors",
        "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
        "text_encoder/model.safetensors", "text_encoder_2/config.json",
        "text_encoder_2/model-00001-of-00002.safetensors", "text_encoder_2/model-00002-of-00002.safetensors",
        "text_encoder_2/model.safetensors.index.json", "tokenizer/merges.txt", "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "tokenizer_2/special_tokens_map.json",
        "tokenizer_2/spiece.model", "tokenizer_2/tokenizer.json", "tokenizer_2/tokenizer_config.json",
        "transformer/config.json", "transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00003.safetensors",
        "transformer/diffusion_pytorch_model-00003-of-00003.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]

    @Test func aPipelineIsItsFolders() {
        let needless = [
            ".gitattributes", "LICENSE.md", "README.md", "ae.safetensors", "dev_grid.jpg", "flux1-dev.safetensors",
        ]
        let others = [
            "vae/flax_model.msgpack", "vae/diffusion_pytorch_model.bin", "transformer/model.onnx", "x/config.json",
        ]
        #expect(NeededFiles.toRun(Self.flux + others) == Self.flux.filter { !needless.contains($0) })
    }

    @Test func weightsThatAreReplacedAreNotFetched() {
        let chosen = NeededFiles.toRun(Self.flux, withoutWeightsOf: ["transformer"])
        #expect(chosen.filter { $0.hasPrefix("transformer/") } == ["transformer/config.json"])
        #expect(chosen.contains("vae/diffusion_pytorch_model.safetensors"))
    }

    @Test func variantsAreFetchedOnlyAlone() {
        let both = [
            "model_index.json", "transformer/a.safetensors", "vae/m-00001-of-00002.safetensors",
            "vae/m-00002-of-00002.safetensors",
        ]
        let variants = ["transformer/a.fp16.safetensors", "vae/m.bf16-00001-of-00002.safetensors"]
        #expect(NeededFiles.toRun(both + variants) == both)
        #expect(NeededFiles.toRun(["model_index.json"] + variants) == ["model_index.json"] + variants)
    }

    @Test func otherFoldersAreTheirWeights() {
        let legacy = ["README.md", "config.json", "transformer_blocks.safetensors", "unquantized_layers.safetensors"]
        #expect(NeededFiles.toRun(legacy) == Array(legacy.dropFirst()))
        // A version in a name is no variant.
        let single = ["svdq-int4_r32-flux.1-dev.safetensors", "svdq-int4_r32-flux.safetensors"]
        #expect(NeededFiles.toRun(single) == single)
    }

    @Test func nvfp4IsNotFetchedBesideINT4() {
        let names = ["config.json", "svdq-fp4_r32-flux.1-dev.safetensors", "svdq-int4_r32-flux.1-dev.safetensors"]
        #expect(NeededFiles.toRun(names) == [names[0], names[2]])
        #expect(NeededFiles.toRun(Array(names.prefix(2))) == Array(names.prefix(2)))
    }

    @Test func aTokenizerIsItsFilesAlone() {
        #expect(NeededFiles.tokenizer("tokenizer")(Self.flux) == Self.flux.filter { $0.hasPrefix("tokenizer/") })
        #expect(NeededFiles.tokenizer("tokenizer_2")(Self.flux) == Self.flux.filter { $0.hasPrefix("tokenizer_2/") })
        let own = ["README.md", "merges.txt", "model.safetensors", "sub/x.json", "vocab.json"]
        #expect(NeededFiles.tokenizer("tokenizer")(own) == ["merges.txt", "vocab.json"])
    }

    @Test func aConfigurationIsOneFile() {
        #expect(NeededFiles.transformerConfiguration(Self.flux) == ["transformer/config.json"])
        #expect(NeededFiles.transformerConfiguration(["config.json", "a.safetensors"]) == ["config.json"])
    }

    @Test func patternsAreTheShells() {
        let choose = NeededFiles.matching(["*.json", "vae/"])
        #expect(choose(["a.json", "b/c.json", "vae/x", "vaex", "c.txt"]) == ["a.json", "b/c.json", "vae/x"])
    }

    @Test func aPartIsAFileOrAFolder() {
        let all: FileChoice = { NeededFiles.toRun($0) }
        #expect(NeededFiles.part("ae.safetensors", of: Self.flux, choose: all) == ["ae.safetensors"])
        #expect(
            NeededFiles.part("vae", of: Self.flux, choose: all) == [
                "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
            ])
        #expect(
            NeededFiles.part("text_encoder_2/model.safetensors.index.json", of: Self.flux, choose: all).count == 3)
        #expect(NeededFiles.part("va", of: Self.flux, choose: all).isEmpty)
    }
}
