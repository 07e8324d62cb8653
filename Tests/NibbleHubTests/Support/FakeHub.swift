import Foundation
import Synchronization

@testable import NibbleHub

/// Answers as the Hub does: a listing, small files themselves, large ones by a redirect to a storage of another host.
///
/// The endpoint is called 127.0.0.1 and the storage localhost, so that to a client they are two hosts.
final class FakeHub: Sendable {
    struct File: Sendable {
        let content: [UInt8]
        let isLarge: Bool

        init(_ content: [UInt8], isLarge: Bool = false) {
            self.content = content
            self.isLarge = isLarge
        }

        init(_ text: String) { self.init(Array(text.utf8)) }

        /// What the Hub names it by; `ContentTests` compares with other programs' hashes.
        var id: String {
            var hash = ContentHash(isLarge ? .sha256 : .gitBlob, size: content.count)
            content.withUnsafeBytes { hash.update($0) }
            return hash.digits() ?? ""
        }
    }

    static let model = "ada/tiny"
    static let commit = "0123456789abcdef0123456789abcdef01234567"

    let endpoint: LocalServer
    let storage: LocalServer

    /// - Parameters:
    ///   - files: of the model, by path.
    ///   - describesFiles: whether the listing has sizes and hashes, as the Hub's has, or not, as some mirrors'.
    ///   - atEndpoint: may answer instead of the Hub.
    ///   - atStorage: may change the storage's answer.
    /// - Throws: where no port can be had.
    init(
        _ files: [String: File], describesFiles: Bool = true,
        atEndpoint: @escaping @Sendable (LocalServer.Request) -> LocalServer.Reply? = { _ in nil },
        atStorage: @escaping @Sendable (LocalServer.Request, LocalServer.Reply) -> LocalServer.Reply = { $1 }
    ) throws {
        let storage = try LocalServer { request in
            let file = files.values.first { $0.isLarge && request.path == "/store/\($0.id)" }
            return atStorage(request, file.map { Self.content($0, request) } ?? .status(404))
        }
        let storagePort = storage.port
        endpoint = try LocalServer { request in
            if let reply = atEndpoint(request) { return reply }
            let pieces = request.path.split(separator: "/").map { String($0).removingPercentEncoding ?? "" }
            if request.path.hasPrefix("/api/models/\(Self.model)/revision/") {
                guard ["main", Self.commit, "refs/pr/1"].contains(pieces[5]) else {
                    return .status(404, ["X-Error-Code": "RevisionNotFound"])
                }
                return Self.listing(files, isDescribed: describesFiles)
            }
            let start = "/\(Self.model)/resolve/\(Self.commit)/"
            guard request.path.hasPrefix(start) else { return .status(404, ["X-Error-Code": "RepoNotFound"]) }
            let path = pieces.dropFirst(4).joined(separator: "/")
            guard let file = files[path] else { return .status(404, ["X-Error-Code": "EntryNotFound"]) }
            guard file.isLarge else {
                var reply = Self.content(file, request)
                reply.headers["X-Repo-Commit"] = Self.commit
                return reply
            }
            return .status(
                302,
                [
                    "Location": "http://localhost:\(storagePort)/store/\(file.id)?signature=secret",
                    "X-Linked-Etag": "\"\(file.id)\"", "X-Linked-Size": "\(file.content.count)",
                    "X-Repo-Commit": Self.commit,
                ])
        }
        self.storage = storage
    }

    func stop() {
        endpoint.stop()
        storage.stop()
    }

    private static func content(_ file: File, _ request: LocalServer.Request) -> LocalServer.Reply {
        let headers = ["ETag": "\"\(file.id)\"", "Accept-Ranges": "bytes"]
        guard let range = request.range else { return .init(headers: headers, body: file.content) }
        guard range.lowerBound < file.content.count else { return .status(416) }
        let part = range.clamped(to: 0...file.content.count - 1)
        let text = "bytes \(part.lowerBound)-\(part.upperBound)/\(file.content.count)"
        return .init(
            status: 206, headers: headers.merging(["Content-Range": text]) { $1 }, body: Array(file.content[part]))
    }

    private static func listing(_ files: [String: File], isDescribed: Bool) -> LocalServer.Reply {
        let siblings = files.map { path, file -> [String: Any] in
            guard isDescribed else { return ["rfilename": path] }
            // A large file's own blob is the pointer to it.
            let large: [String: Any] = ["sha256": file.id, "size": file.content.count, "pointerSize": 130]
            return ["rfilename": path, "size": file.content.count, "blobId": file.isLarge ? commit : file.id].merging(
                file.isLarge ? ["lfs": large] : [:]
            ) { $1 }
        }
        let answer: [String: Any] = ["id": model, "sha": commit, "private": false, "siblings": siblings]
        let data = try? JSONSerialization.data(withJSONObject: answer)
        return .init(headers: ["Content-Type": "application/json"], body: Array(data ?? Data()))
    }
}

/// A folder for a cache, gone after the test.
final class TemporaryCache: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "nibble-hub-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Files and links below the folder, links with what they lead to.
    var contents: [String] { Self.contents(of: path) }

    static func contents(of path: String) -> [String] {
        let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        return names.compactMap { name -> String? in
            if let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path + "/" + name) {
                return name + " -> " + target
            }
            var isFolder: ObjCBool = false
            let isThere = FileManager.default.fileExists(atPath: path + "/" + name, isDirectory: &isFolder)
            return isThere && !isFolder.boolValue ? name : nil
        }.sorted()
    }

    func settings(
        _ hub: FakeHub? = nil, token: String? = "hf_secret", _ change: (inout HubSettings) -> Void = { _ in }
    ) throws -> HubSettings {
        var settings = try HubSettings(environment: [
            "HF_HUB_CACHE": path, "HF_ENDPOINT": "http://127.0.0.1:\(hub?.endpoint.port ?? 1)",
            "HF_TOKEN": token ?? "", "HF_TOKEN_PATH": path + "/no-token",
        ])
        settings.retries.firstDelay = .milliseconds(1)
        settings.retries.longestDelay = .milliseconds(5)
        change(&settings)
        return settings
    }
}

/// Bytes without a pattern: Knuth's MMIX generator, upper byte.
func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(state >> 56)
    }
}

func bytes(_ path: String) -> [UInt8]? { FileManager.default.contents(atPath: path).map(Array.init) }
