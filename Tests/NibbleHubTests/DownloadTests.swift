import Foundation
import Synchronization
import Testing

@testable import NibbleHub

/// Downloads from a server that answers as the Hub does.
@Suite struct DownloadTests {
    static let weights = noise(300_000)
    static let files: [String: FakeHub.File] = [
        "config.json": .init("{}\n"), "sub/a b+c.json": .init("[1]"), "empty.json": .init(""),
        "model.safetensors": .init(weights, isLarge: true), "README.md": .init("no"),
    ]

    @Test func everyByteArrives() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let last = Mutex<HubProgress?>(nil)
        let settings = try cache.settings(hub)
        let snapshot = try await Hub(settings).snapshot(
            of: HubName(FakeHub.model), progress: { progress in last.withLock { $0 = progress } })
        #expect(snapshot.files == ["config.json", "empty.json", "model.safetensors", "sub/a b+c.json"])
        for name in snapshot.files { #expect(bytes(snapshot.folder + "/" + name) == Self.files[name]?.content) }
        #expect(bytes(snapshot.folder + "/README.md") == nil)
        #expect(snapshot.commit == FakeHub.commit)
        #expect(snapshot.byteCount == 300_006 && snapshot.missingByteCount == 300_006)
        let progress = last.withLock { $0 }
        #expect(progress?.bytes == 300_006 && progress?.totalBytes == 300_006)
        #expect(progress?.files == 4 && progress?.totalFiles == 4)
        #expect(!cache.contents.contains { $0.hasSuffix(".incomplete") })
    }

    @Test func theTokenStaysAtTheEndpoint() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        _ = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        #expect(hub.endpoint.requests.allSatisfy { $0.headers["authorization"] == "Bearer hf_secret" })
        #expect(!hub.endpoint.requests.isEmpty && !hub.storage.requests.isEmpty)
        #expect(hub.storage.requests.allSatisfy { $0.headers["authorization"] == nil })
        #expect(hub.storage.requests.allSatisfy { $0.query == "signature=secret" })
    }

    /// A renamed model: the endpoint sends to itself, and the token goes along.
    @Test func aRedirectWithinTheEndpointKeepsTheToken() async throws {
        let hub = try FakeHub(
            Self.files,
            atEndpoint: { request in
                guard request.path.hasPrefix("/api/models/old/name/") else { return nil }
                let rest = request.path.dropFirst("/api/models/old/name/".count)
                return .status(307, ["Location": "/api/models/\(FakeHub.model)/\(rest)?blobs=true"])
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let listing = try await HubClient(cache.settings(hub)).listing(of: HubName("old/name"))
        #expect(listing.files.count == Self.files.count)
        #expect(hub.endpoint.requests.map { $0.headers["authorization"] } == ["Bearer hf_secret", "Bearer hf_secret"])
    }

    @Test func endlessRedirectsEnd() async throws {
        let hub = try FakeHub(Self.files, atEndpoint: { .status(302, ["Location": $0.path]) })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        await #expect(throws: HubError.self) {
            try await HubClient(cache.settings(hub)).listing(of: HubName(FakeHub.model))
        }
        #expect(hub.endpoint.requests.count < 20)
    }

    @Test func aSecondTimeNothingIsAsked() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        let first = try await Hub(settings).snapshot(of: HubName(FakeHub.model))
        let asked = hub.endpoint.requests.count
        let second = try await Hub(settings).snapshot(of: HubName(FakeHub.model))
        #expect(second.folder == first.folder && second.files == first.files && second.missingByteCount == 0)
        #expect(hub.endpoint.requests.count == asked)
        // The branch is looked up where that is asked for, and the listing is all that is.
        let current = try await Hub(settings).snapshot(of: HubName(FakeHub.model), freshness: .current)
        #expect(current.missingByteCount == 0)
        #expect(hub.endpoint.requests.count == asked + 1)
    }

    /// A spoiled blob is not used: its size tells.
    @Test func aBlobOfAnotherSizeComesAgain() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        let first = try await Hub(settings).snapshot(of: HubName(FakeHub.model))
        #expect(truncate(first.folder + "/model.safetensors", 1000) == 0)
        let second = try await Hub(settings).snapshot(of: HubName(FakeHub.model))
        #expect(second.missingByteCount == Self.weights.count)
        #expect(bytes(second.folder + "/model.safetensors") == Self.weights)
    }

    @Test func aFileIsFetchedAlone() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let name = try HubName(FakeHub.model + "/model.safetensors@refs/pr/1")
        let snapshot = try await Hub(cache.settings(hub)).snapshot(of: name)
        #expect(snapshot.files == ["model.safetensors"])
        #expect(bytes(snapshot.path) == Self.weights)
        #expect(hub.endpoint.requests[0].path.hasSuffix("/revision/refs%2Fpr%2F1"))
        let folder = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model + "/sub"))
        #expect(folder.files == ["sub/a b+c.json"] && folder.path.hasSuffix("/sub"))
    }

    /// A mirror whose listing has names alone: each file's head tells the rest.
    @Test func aListingWithoutSizesIsCompleted() async throws {
        let hub = try FakeHub(Self.files, describesFiles: false)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let snapshot = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.folder + "/model.safetensors") == Self.weights)
        #expect(snapshot.byteCount == 300_006)
        #expect(hub.storage.requests.allSatisfy { $0.method == "GET" })
    }

    @Test func filesComeInPiecesOfBoundedSize() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub) { $0.bytesPerRequest = 65_536 }
        let snapshot = try await Hub(settings).snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.folder + "/model.safetensors") == Self.weights)
        // 300,000 bytes are four pieces of 65,536 and a rest; only the first goes by way of the endpoint.
        #expect(hub.storage.requests.count == 5)
        #expect(hub.storage.requests.allSatisfy { $0.range.map { $0.count <= 65_536 } ?? false })
        #expect(hub.endpoint.requests.count { $0.path.hasSuffix("/model.safetensors") } == 1)
    }

    @Test func filesComeAtTheSameTime() async throws {
        let waiting = Mutex((now: 0, most: 0))
        let contents = Dictionary(
            uniqueKeysWithValues: (0..<6).map {
                ("\($0).safetensors", FakeHub.File(noise(500, seed: UInt64($0)), isLarge: true))
            })
        let hub = try FakeHub(
            contents,
            atStorage: { _, reply in
                waiting.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                Thread.sleep(forTimeInterval: 0.2)
                waiting.withLock { $0.now -= 1 }
                return reply
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let snapshot = try await Hub(cache.settings(hub) { $0.simultaneousFiles = 3 }).snapshot(
            of: HubName(FakeHub.model))
        for (name, file) in contents { #expect(bytes(snapshot.folder + "/" + name) == file.content) }
        let most = waiting.withLock { $0.most }
        #expect(most > 1 && most <= 3)
    }

    /// Two that want the same, as two processes would: locks are per open file, so they hold within a process too.
    @Test func twoDownloadsOfOneModelDoNotFight() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        async let first = Hub(settings).snapshot(of: HubName(FakeHub.model))
        async let second = Hub(settings).snapshot(of: HubName(FakeHub.model))
        let folders = try await [first.folder, second.folder]
        #expect(folders[0] == folders[1])
        #expect(bytes(folders[0] + "/model.safetensors") == Self.weights)
        #expect(hub.storage.requests.count == 1)
    }

    @Test func cancellingStops() async throws {
        let hub = try FakeHub(
            Self.files,
            atStorage: { _, reply in
                Thread.sleep(forTimeInterval: 2)
                return reply
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        let work = Task { try await Hub(settings).snapshot(of: HubName(FakeHub.model)) }
        while hub.storage.requests.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
    }
}
