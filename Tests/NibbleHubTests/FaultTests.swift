import Foundation
import Synchronization
import Testing

@testable import NibbleHub

/// What goes wrong on the way, and what is said and kept then.
@Suite struct FaultTests {
    private static let weights = noise(400_000, seed: 7)
    private static let files = ["model.safetensors": FakeHub.File(weights, isLarge: true)]

    /// Asks for a model of a server that always answers the same.
    private func error(
        _ reply: LocalServer.Reply, token: String? = nil, name: String = FakeHub.model
    ) async throws -> HubError? {
        let hub = try FakeHub([:], atEndpoint: { _ in reply })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        return await #expect(throws: HubError.self) {
            try await Hub(cache.settings(hub, token: token)).snapshot(of: HubName(name))
        }
    }

    @Test func refusalsSayWhatToDo() async throws {
        for status in [401, 403] {
            let gated = LocalServer.Reply.status(status, ["X-Error-Code": "GatedRepo"])
            let text = try #require(try await error(gated)).description
            #expect(text.contains("accept") && text.contains("/ada/tiny") && text.contains("HF_TOKEN"))
        }
        let anonymous = try await error(.status(401))
        #expect(anonymous == .unauthorized(model: "ada/tiny", host: "127.0.0.1", hasToken: false))
        #expect(anonymous?.description.contains("set HF_TOKEN") == true)
        let refused = try await error(.status(401), token: "hf_bad")
        #expect(refused == .unauthorized(model: "ada/tiny", host: "127.0.0.1", hasToken: true))
        #expect(refused?.description.contains("hf_bad") == false)
        #expect(
            try await error(.status(404, ["X-Error-Code": "RepoNotFound"]))
                == .missingModel(model: "ada/tiny", host: "127.0.0.1", hasToken: false))
        #expect(
            try await error(.status(404)) == .missingModel(model: "ada/tiny", host: "127.0.0.1", hasToken: false))
        #expect(
            try await error(.status(404, ["X-Error-Code": "RevisionNotFound"]), name: "ada/tiny@v9")
                == .missingRevision(model: "ada/tiny", revision: "v9"))
        #expect(
            try await error(.status(400))
                == .refused(host: "127.0.0.1", path: "/api/models/ada/tiny/revision/main", status: 400))
    }

    @Test func aMissingFileIsNamed() async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        await #expect(throws: HubError.missingFile(model: "ada/tiny", revision: "main", file: "x.safetensors")) {
            try await Hub(settings).snapshot(of: HubName("ada/tiny/x.safetensors"))
        }
        await #expect(throws: HubError.missingRevision(model: "ada/tiny", revision: "v9")) {
            try await Hub(settings).snapshot(of: HubName("ada/tiny@v9"))
        }
        // Listed, and gone when it is asked for.
        let gone = try FakeHub(
            Self.files,
            atEndpoint: { $0.path.contains("/resolve/") ? .status(404, ["X-Error-Code": "EntryNotFound"]) : nil })
        defer { gone.stop() }
        await #expect(throws: HubError.missingFile(model: "ada/tiny", revision: "main", file: "model.safetensors")) {
            try await Hub(cache.settings(gone)).snapshot(of: HubName("ada/tiny"))
        }
        #expect(!cache.contents.contains { $0.contains("/snapshots/") })
    }

    @Test func aBusyServerIsWaitedFor() async throws {
        let asked = Mutex(0)
        let hub = try FakeHub(
            Self.files,
            atEndpoint: { _ in
                let number = asked.withLock { count in
                    count += 1
                    return count
                }
                switch number {
                case 1: return .status(429, ["Retry-After": "0"])
                case 2: return .status(503)
                case 3: return .status(429, ["RateLimit": "\"api\";r=0;t=0"])
                default: return nil
                }
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let snapshot = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.folder + "/model.safetensors") == Self.weights)
    }

    @Test func aServerThatAsksForAnHourIsNot() async throws {
        #expect(
            try await error(.status(429, ["Retry-After": "3600"]))
                == .rateLimited(host: "127.0.0.1", seconds: 3600, hasToken: false))
        #expect(
            try await error(.status(429, ["RateLimit": "\"resolvers\";r=0;t=900"]))
                == .rateLimited(host: "127.0.0.1", seconds: 900, hasToken: false))
        let date = try await error(.status(429, ["Retry-After": "Fri, 31 Dec 2199 23:59:59 GMT"]))
        guard case .rateLimited(_, .some(1_000_000_000), _) = date else {
            Issue.record("a date was not understood: \(String(describing: date))")
            return
        }
    }

    @Test func aServerThatStaysBrokenIsGivenUp() async throws {
        #expect(
            try await error(.status(503))
                == .refused(host: "127.0.0.1", path: "/api/models/ada/tiny/revision/main", status: 503))
        let cache = try TemporaryCache()
        let unreachable = await #expect(throws: HubError.self) {
            // Port 1 of this machine: nobody listens.
            try await Hub(cache.settings(nil)).snapshot(of: HubName("ada/tiny"))
        }
        guard case .unreachable("ada/tiny", "127.0.0.1", 3, _) = unreachable else {
            Issue.record("\(String(describing: unreachable))")
            return
        }
    }

    /// Each connection of the storage breaks off after some bytes, until all have come.
    @Test(arguments: [UInt64(1), 2, 3])
    func cutsAreMended(seed: UInt64) async throws {
        let cuts = Mutex(noise(200, seed: seed)[...])
        let hub = try FakeHub(
            Self.files,
            atStorage: { _, reply in
                var reply = reply
                // Now and then nothing at all.
                let byte = cuts.withLock { $0.popFirst() } ?? 255
                reply.cut = byte < 40 ? 0 : min(reply.body.count, Int(byte) * 331)
                return reply
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub) { $0.retries.attempts = 20 }
        let snapshot = try await Hub(settings).snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.path + "/model.safetensors") == Self.weights)
        // No byte was asked for twice: every range begins where some other one broke off.
        let starts = hub.storage.requests.compactMap { $0.range?.lowerBound }
        #expect(starts == starts.sorted() && starts.count > 3)
    }

    /// A connection that stays open and says nothing more.
    @Test func silenceEnds() async throws {
        let answered = Mutex(0)
        let hub = try FakeHub(
            Self.files,
            atStorage: { _, reply in
                var reply = reply
                let isFirst = answered.withLock { count in
                    count += 1
                    return count == 1
                }
                // Far longer than the test waits if the client does not give up first.
                if isFirst { (reply.cut, reply.silence) = (100_000, 15) }
                return reply
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let snapshot = try await Hub(cache.settings(hub) { $0.idleTimeout = 1 }).snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.path + "/model.safetensors") == Self.weights)
        #expect(hub.storage.requests.map { $0.range?.lowerBound } == [0, 100_000])
    }

    /// As with FLUX.1-dev: everybody may see what there is, and only who accepted the terms may have it.
    @Test func aGatedModelIsListedAndNotGiven() async throws {
        let hub = try FakeHub(
            Self.files,
            atEndpoint: { $0.path.contains("/resolve/") ? .status(403, ["X-Error-Code": "GatedRepo"]) : nil })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let settings = try cache.settings(hub)
        let page = "http://127.0.0.1:\(hub.endpoint.port)/ada/tiny"
        await #expect(throws: HubError.gated(model: "ada/tiny", page: page, hasToken: true)) {
            try await Hub(settings).snapshot(of: HubName(FakeHub.model))
        }
    }

    @Test func whatHasComeIsKeptForTheNextRun() async throws {
        let cache = try TemporaryCache()
        let broken = try FakeHub(
            Self.files,
            atStorage: { request, reply in
                var reply = reply
                reply.cut = request.range?.lowerBound == 0 ? 150_000 : 0
                return reply
            })
        let failure = await #expect(throws: HubError.self) {
            try await Hub(cache.settings(broken)).snapshot(of: HubName(FakeHub.model))
        }
        broken.stop()
        guard case .connectionLost("model.safetensors", 150_000, 400_000, 6, _) = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        #expect(cache.contents.contains { $0.hasSuffix(".incomplete") })
        #expect(!cache.contents.contains { $0.contains("/snapshots/") || $0.contains("/refs/") })
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let snapshot = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.path + "/model.safetensors") == Self.weights)
        #expect(hub.storage.requests.map { $0.range?.lowerBound } == [150_000])
    }

    /// What an earlier run left is of another content, or too long.
    @Test(arguments: [1000, 400_000, 400_001])
    func aSpoiledPartIsFetchedAgain(count: Int) async throws {
        let hub = try FakeHub(Self.files)
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let blobs = cache.path + "/models--ada--tiny/blobs"
        try FileManager.default.createDirectory(atPath: blobs, withIntermediateDirectories: true)
        let id = FakeHub.File(Self.weights, isLarge: true).id
        try Data(noise(count, seed: 99)).write(to: URL(filePath: "\(blobs)/\(id).incomplete"))
        let snapshot = try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.path + "/model.safetensors") == Self.weights)
    }

    @Test func wrongBytesAreNeverUsed() async throws {
        let hub = try FakeHub(
            Self.files,
            atStorage: { _, reply in
                var reply = reply
                reply.body[reply.body.count / 2] ^= 1
                return reply
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let failure = await #expect(throws: HubError.self) {
            try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        }
        guard case .wrongContent("model.safetensors", _, _) = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        #expect(!cache.contents.contains { !$0.hasPrefix(".locks/") })
    }

    @Test func moreBytesThanAnnouncedAreRefused() async throws {
        let hub = try FakeHub(
            Self.files, atStorage: { _, reply in .init(status: 200, body: reply.body + noise(100)) })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        await #expect(
            throws: HubError.wrongContent(
                file: "model.safetensors", found: "more than 400000 bytes", expected: "400000 bytes")
        ) {
            try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        }
    }

    /// Servers that know no ranges send all, from the first byte.
    @Test func aServerWithoutRangesIsUnderstood() async throws {
        let isFirst = Mutex(true)
        let hub = try FakeHub(
            Self.files,
            atStorage: { _, _ in
                let cut = isFirst.withLock { first in
                    defer { first = false }
                    return first ? 100_000 : nil
                }
                return .init(status: 200, body: Self.weights, cut: cut)
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let snapshot = try await Hub(cache.settings(hub) { $0.bytesPerRequest = 50_000 })
            .snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.path + "/model.safetensors") == Self.weights)
    }

    @Test func bytesFromElsewhereInTheFileAreRefused() async throws {
        let hub = try FakeHub(
            Self.files,
            atStorage: { _, reply in
                var reply = reply
                reply.headers["Content-Range"] = "bytes 5-400004/400000"
                return reply
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let failure = await #expect(throws: HubError.self) {
            try await Hub(cache.settings(hub)).snapshot(of: HubName(FakeHub.model))
        }
        guard case .malformedAnswer = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
    }

    /// The address of the storage is signed for some minutes: when it has run out, the endpoint gives another.
    @Test func aSignatureThatRunsOutIsRenewed() async throws {
        let answered = Mutex(0)
        let hub = try FakeHub(
            Self.files,
            atStorage: { _, reply in
                let number = answered.withLock { count in
                    count += 1
                    return count
                }
                return number == 2 ? .status(403) : reply
            })
        defer { hub.stop() }
        let cache = try TemporaryCache()
        let snapshot = try await Hub(cache.settings(hub) { $0.bytesPerRequest = 150_000 })
            .snapshot(of: HubName(FakeHub.model))
        #expect(bytes(snapshot.path + "/model.safetensors") == Self.weights)
        #expect(hub.endpoint.requests.count { $0.path.contains("/resolve/") } == 2)
    }

    @Test func aDiskTooSmallIsSaidBefore() async throws {
        let huge = #"""
            {"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [{"rfilename": "a.safetensors", "size": 1,
            "blobId": "x", "lfs": {"sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "size": 4611686018427387904}}]}
            """#
        guard case .noSpace(_, 4_611_686_018_427_387_904, _) = try await error(.init(body: Array(huge.utf8))) else {
            Issue.record("nobody has so large a disk")
            return
        }
    }

    @Test(arguments: [
        "", "{", "[]", #"{"sha": "main", "siblings": []}"#, #"{"sha": 5}"#,
        #"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [{"rfilename": "../../x.json"}]}"#,
        #"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [{"rfilename": "/etc/x.json"}]}"#,
        #"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [{"rfilename": "x.json", "size": -1}]}"#,
        #"{"sha": "../../../0123456789abcdef0123456789abcdef", "siblings": [{"rfilename": "x.json"}]}"#,
    ])
    func answersThatAreNoListingAreRefused(_ text: String) async throws {
        guard case .malformedAnswer = try await error(.init(body: Array(text.utf8))) else {
            Issue.record("'\(text)' was taken for a listing")
            return
        }
    }
}
