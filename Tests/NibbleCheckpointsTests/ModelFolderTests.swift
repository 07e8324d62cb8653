import Foundation
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

@Suite struct ModelFolderTests {
    private struct Sizes: Decodable {
        let numLayers: Int
        let axes: [Int]?
        let kind: Kind?

        enum Kind: String, Decodable { case dev, schnell }

        private enum CodingKeys: String, CodingKey {
            case numLayers = "num_layers"
            case axes = "axes_dims_rope"
            case kind
        }
    }

    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try folder.write("model_index.json", #"{"_class_name":"FluxPipeline","vae":["diffusers","AutoencoderKL"]}"#)
    }

    @Test func readsConfigurations() throws {
        try folder.write("transformer/config.json", #"{"num_layers":19,"more":{}}"#)
        try folder.write("scheduler/scheduler_config.json", #"{"num_layers":1}"#)
        try folder.write("tokenizer_2/tokenizer_config.json", #"{"num_layers":2}"#)
        let model = try ModelFolder(folder.path)
        #expect(model.folder(.textEncoder2) == folder.path + "/text_encoder_2")
        #expect(try model.config(.transformer, as: Sizes.self).numLayers == 19)
        #expect(try model.config(.scheduler, as: Sizes.self).numLayers == 1)
        #expect(try model.config(.tokenizer2, as: Sizes.self).numLayers == 2)
    }

    @Test(arguments: [
        (#"{}"#, "num_layers", "missing", "a value"),
        (#"{"num_layers":"two"}"#, "num_layers", "'two'", "an integer"),
        (#"{"num_layers":{}}"#, "num_layers", "an object", "an integer"),
        (#"{"num_layers":null}"#, "num_layers", "null", "an integer"),
        (#"{"num_layers":1,"axes_dims_rope":7}"#, "axes_dims_rope", "7", "a list"),
        (#"{"num_layers":1,"axes_dims_rope":[1,"x"]}"#, "axes_dims_rope.[1]", "'x'", "an integer"),
        (#"[]"#, "the whole file", "a list", "an object"),
    ])
    func configurationErrors(_ text: String, _ key: String, _ found: String, _ expected: String) throws {
        let path = try folder.write("transformer/config.json", text)
        let model = try ModelFolder(folder.path)
        #expect(throws: CheckpointError.wrongConfiguration(path: path, key: key, found: found, expected: expected)) {
            try model.config(.transformer, as: Sizes.self)
        }
    }

    @Test func valueThatTheTypeRefuses() throws {
        try folder.write("transformer/config.json", #"{"num_layers":1,"kind":"pro"}"#)
        let model = try ModelFolder(folder.path)
        let error = #expect(throws: CheckpointError.self) { try model.config(.transformer, as: Sizes.self) }
        #expect(error?.description.contains("'kind' is 'pro'; expected ") == true, "\(String(describing: error))")
    }

    @Test(arguments: ["", "{", "\u{1}", #"{"num_layers":1"#, String(repeating: "[", count: 200_000)])
    func configurationThatIsNoJSON(_ text: String) throws {
        let path = try folder.write("transformer/config.json", text)
        let model = try ModelFolder(folder.path)
        let error = #expect(throws: CheckpointError.self) { try model.config(.transformer, as: Sizes.self) }
        guard case .malformed(path, _)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func anotherPipeline() throws {
        let path = try folder.write("model_index.json", #"{"_class_name":"StableDiffusionPipeline"}"#)
        #expect(
            throws: CheckpointError.wrongConfiguration(
                path: path, key: "_class_name", found: "'StableDiffusionPipeline'",
                expected: "a FLUX.1 text-to-image pipeline (FluxPipeline)")
        ) { try ModelFolder(folder.path) }
    }

    @Test func missingParts() throws {
        let model = try ModelFolder(folder.path)
        #expect(throws: CheckpointError.missingFile(path: folder.path + "/vae", neededBy: folder.path)) {
            try model.weights(.vae)
        }
        #expect(throws: CheckpointError.missingFile(path: folder.path + "/vae/config.json", neededBy: "the model")) {
            try model.config(.vae, as: Sizes.self)
        }
        #expect(throws: CheckpointError.inaccessible(path: "/none", reason: "there is no such folder")) {
            try ModelFolder("/none")
        }
        let empty = try TemporaryFolder()
        #expect(throws: CheckpointError.missingFile(path: empty.path + "/model_index.json", neededBy: "the model")) {
            try ModelFolder(empty.path)
        }
    }

    @Test(
        .enabled(if: !Goldens.fluxModels.isEmpty, "no golden model beside the repository"),
        arguments: Goldens.fluxModels)
    func goldenModels(_ root: URL) throws {
        let model = try ModelFolder(root.appending(path: "model").path)
        for component in [ModelFolder.Component.transformer, .textEncoder, .textEncoder2, .vae] {
            #expect(try !model.weights(component).tensorNames.isEmpty)
        }
        #expect(try model.config(.transformer, as: Sizes.self).numLayers > 0)
    }
}
