import Foundation
import Testing

@testable import NibbleHub

/// The cache, beside one that Python's `huggingface_hub` wrote (`Fixtures/RECIPE.md`).
@Suite struct CacheTests {
    static let fixture = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Fixtures/python-cache").path
    /// As the table of `make_python_cache.py`.
    static let files: [String: FakeHub.File] = [
        "config.json": .init("{}\n"), "sub/deep/vocab.json": .init("[1]"), "empty.json": .init(""),
        "model.safetensors": .init((0..<1024).map { UInt8($0 % 256) }, isLarge: true),
    ]

    private func offline(_ path: String, _ text: String = FakeHub.model) async throws -> Hub.Snapshot {
        let settings = try HubSettings(environment: ["HF_HUB_CACHE": path, "HF_HUB_OFFLINE": "1"])
        return try await Hub(settings).snapshot(of: HubName(text))
    }

    @Test func whatPythonStoredIsFound() async throws {
        let snapshot = try await offline(Self.fixture)
        #expect(snapshot.files == Self.files.keys.sorted())
        for (name, file) in Self.files { #expect(bytes(snapshot.folder + "/" + name) == file.content) }
        let part = try await offline(Self.fixture, "ada/tiny/sub/deep/vocab.json@\(FakeHub.commit)")
        #expect(bytes(part.path) == Self.files["sub/deep/vocab.json"]?.content)
    }

    /// Older versions of `huggingface_hub` keep no listing: what is there is what there is.
    @Test func aCacheWithoutListingIsFound() async throws {
        let cache = try TemporaryCache()
        try FileManager.default.removeItem(atPath: cache.path)
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: cache.path)
        try FileManager.default.removeItem(atPath: cache.path + "/models--ada--tiny/trees")
        #expect(try await offline(cache.path).files == Self.files.keys.sorted())
    }

    @Test func whatWeStoreIsWhatPythonStores() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        _ = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        func isShared(_ name: String) -> Bool {
            !name.hasPrefix(".locks/") && !name.contains("/trees/") && !name.contains("/nibble/")
                && !name.hasSuffix("CACHEDIR.TAG")
        }
        let ours = cache.contents.filter(isShared)
        let theirs = TemporaryCache.contents(of: Self.fixture).filter(isShared)
        #expect(ours == theirs)
        #expect(ours.contains("models--ada--tiny/refs/main"))
        for name in ours where !name.contains(" -> ") {
            #expect(bytes(cache.path + "/" + name) == bytes(Self.fixture + "/" + name), "\(name)")
        }
    }

    @Test func whatPythonStoredIsNotFetchedAgain() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        try FileManager.default.removeItem(atPath: cache.path)
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: cache.path)
        let settings = try cache.settings(hub)
        let current = try await Hub(settings).snapshot(of: HubName(FakeHub.model), freshness: .current)
        #expect(current.missingByteCount == 0 && hub.storage.requests.isEmpty && hub.endpoint.requests.count == 1)
    }

    @Test func offlineSaysWhatIsMissing() async throws {
        let cache = try TemporaryCache()
        await #expect(throws: HubError.offline(model: "ada/tiny", missing: [], cache: cache.path)) {
            try await offline(cache.path)
        }
        try FileManager.default.removeItem(atPath: cache.path)
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: cache.path)
        try FileManager.default.removeItem(
            atPath: cache.path + "/models--ada--tiny/snapshots/\(FakeHub.commit)/config.json")
        await #expect(throws: HubError.offline(model: "ada/tiny", missing: ["config.json"], cache: cache.path)) {
            try await offline(cache.path)
        }
        await #expect(throws: HubError.offline(model: "ada/tiny@other", missing: [], cache: cache.path)) {
            try await offline(cache.path, "ada/tiny@other")
        }
    }

    /// A server that nobody can reach, and a cache that has it: the cache will do, unless the newest is asked for.
    @Test func withoutANetworkTheCacheWillDo() async throws {
        let cache = try TemporaryCache()
        try FileManager.default.removeItem(atPath: cache.path)
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: cache.path)
        try FileManager.default.removeItem(atPath: cache.path + "/models--ada--tiny/trees")
        let settings = try cache.settings(nil)
        #expect(try await Hub(settings).snapshot(of: HubName(FakeHub.model)).files.count == 4)
        await #expect(throws: HubError.self) {
            try await Hub(settings).snapshot(of: HubName(FakeHub.model), freshness: .current)
        }
    }

    /// A reference or a listing that lies must not lead out of the folder.
    @Test(arguments: ["../../../etc", "main", "", String(repeating: "a", count: 41)])
    func aReferenceThatIsNoCommitIsNotFollowed(_ text: String) async throws {
        let cache = try TemporaryCache()
        let folder = cache.path + "/models--ada--tiny/refs"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: URL(filePath: folder + "/main"))
        await #expect(throws: HubError.self) { try await offline(cache.path) }
    }

    @Test func aLockIsWaitedFor() async throws {
        let cache = try TemporaryCache()
        let path = cache.path + "/.locks/x.lock"
        try await FileLock.hold(path) {
            let waiting = Task { try await FileLock.hold(path) { true } }
            try await Task.sleep(for: .milliseconds(250))
            waiting.cancel()
            await #expect(throws: CancellationError.self) { try await waiting.value }
        }
        #expect(try await FileLock.hold(path) { true })
    }

    @Test func aFolderThatCannotBeWrittenIsNamed() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let file = cache.path + "/file"
        try Data().write(to: URL(filePath: file))
        let failure = await #expect(throws: HubError.self) {
            try await Hub(cache.settings(hub) { $0.cache = file }).snapshot(of: HubName(FakeHub.model))
        }
        #expect(failure?.description.contains(file) == true)
    }
}
