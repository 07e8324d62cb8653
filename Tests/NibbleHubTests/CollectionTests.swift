import Foundation
import Testing

@testable import NibbleHub

/// Models that are collections of Nunchaku's single files: which of them a transformer's name means.
@Suite struct CollectionTests {
    private static let int4 = "svdq-int4_r32-flux.1-dev.safetensors"
    private static let int4Rank128 = "svdq-int4_r128-flux.1-dev.safetensors"
    private static let nvfp4 = "svdq-fp4_r32-flux.1-dev.safetensors"
    private static let weights = noise(20_000, seed: 3)

    private static func hub(_ names: String...) throws -> FakeHub {
        var files: [String: FakeHub.File] = ["README.md": .init("no"), "config.json": .init("{}")]
        for name in names { files[name] = .init(name == int4 ? weights : noise(500, seed: 9), isLarge: true) }
        return try FakeHub(files)
    }

    @Test func theOnlyINT4FileIsTaken() async throws {
        let hub = try Self.hub(Self.nvfp4, Self.int4)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        let snapshot = try await Hub(settings).snapshot(of: HubName(FakeHub.model), as: .transformer)
        #expect(snapshot.files == [Self.int4] && snapshot.path == snapshot.folder + "/" + Self.int4)
        #expect(bytes(snapshot.path) == Self.weights)
        #expect(!cache.contents.contains { $0.contains("fp4_") })
        // From the cache, with a network and without.
        let asked = hub.endpoint.requests.count
        let again = try await Hub(settings).snapshot(of: HubName(FakeHub.model), as: .transformer)
        #expect(again.path == snapshot.path && hub.endpoint.requests.count == asked)
        let offline = try HubSettings(environment: ["HF_HUB_CACHE": cache.path, "HF_HUB_OFFLINE": "1"])
        #expect(
            try await Hub(offline).snapshot(of: HubName(FakeHub.model), as: .transformer).path == snapshot.path)
    }

    @Test func severalAreListed() async throws {
        let hub = try Self.hub(Self.nvfp4, Self.int4, Self.int4Rank128)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        let name = try HubName(FakeHub.model + "@refs/pr/1")
        let error = await #expect(throws: HubError.self) {
            try await Hub(settings).snapshot(of: name, as: .transformer)
        }
        #expect(error == .severalTransformers(model: "\(name)", files: [Self.int4Rank128, Self.int4]))
        let text = try #require(error).description
        #expect(text.contains("\(FakeHub.model)/\(Self.int4Rank128)@refs/pr/1") && !text.contains("fp4_"))
        #expect(hub.storage.requests.isEmpty && !cache.contents.contains { $0.contains("/blobs/") })
        // A name with a file says which.
        let named = try await Hub(settings).snapshot(
            of: HubName("\(FakeHub.model)/\(Self.int4)"), as: .transformer)
        #expect(named.files == [Self.int4])
        // The listing is in the cache now: without a network the reason is the same.
        let offline = try HubSettings(environment: ["HF_HUB_CACHE": cache.path, "HF_HUB_OFFLINE": "1"])
        await #expect(throws: HubError.severalTransformers(model: "ada/tiny", files: [Self.int4Rank128, Self.int4])) {
            try await Hub(offline).snapshot(of: HubName(FakeHub.model), as: .transformer)
        }
    }

    @Test func nvfp4IsNeverTaken() async throws {
        let hub = try Self.hub(Self.nvfp4)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        await #expect(throws: HubError.onlyNVFP4(model: "ada/tiny", files: [Self.nvfp4])) {
            try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model), as: .transformer)
        }
        #expect(hub.storage.requests.isEmpty)
    }

    /// A legacy folder, or a folder of diffusers, is taken whole.
    @Test func foldersAreFolders() async throws {
        let hub = try Self.hub("transformer_blocks.safetensors", "unquantized_layers.safetensors")
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let snapshot = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model), as: .transformer)
        #expect(snapshot.path == snapshot.folder && snapshot.files.count == 3)
    }
}
