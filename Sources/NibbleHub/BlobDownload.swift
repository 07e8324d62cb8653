internal import Foundation
internal import Synchronization

#if canImport(FoundationNetworking)
    internal import FoundationNetworking
#endif

/// Brings one file into the cache.
struct BlobDownload: Sendable {
    /// A file of which all is known that there is to know.
    struct File: Sendable {
        let path: String
        let size: Int
        let id: ContentID

        init?(_ file: HubListing.File) {
            guard let size = file.size, let id = file.id else { return nil }
            (path, self.size, self.id) = (file.path, size, id)
        }
    }

    let client: HubClient
    let cache: HubCache
    let name: HubName
    let commit: String
    let file: File
    let meter: ProgressMeter

    private var path: String { file.path }
    private var size: Int { file.size }
    private var id: ContentID { file.id }

    /// Downloads what is missing of the file and links it into the snapshot.
    ///
    /// - Throws: `HubError`, `CancellationError`. What has come stays for the next try, unless it is wrong.
    func run() async throws {
        try await FileLock.hold(cache.lock(id)) {
            if cache.hasBlob(id, size: size) {
                // Another process was here first.
                meter.add(bytes: size)
            } else {
                try await bring()
            }
            try cache.link(path, to: id, at: commit)
        }
        meter.addFile()
    }

    private func bring() async throws {
        let part = try PartialFile(cache.partialBlob(id), name: path, id: id, size: size)
        meter.add(bytes: part.resumedFrom)
        try await fill(part)
        do {
            try part.finish(to: cache.blob(id))
        } catch HubError.wrongContent where part.resumedFrom > 0 {
            // What an earlier run left may have been spoiled since: once more, from the first byte.
            meter.add(bytes: -size)
            let whole = try PartialFile(cache.partialBlob(id), name: path, id: id, size: size)
            try await fill(whole)
            try whole.finish(to: cache.blob(id))
        }
    }

    private func fill(_ part: PartialFile) async throws {
        var patience = Patience(client.settings, model: "\(name)")
        let start = client.address(of: path, of: name.model, at: commit)
        // Where the endpoint sends us; signed, so valid for some time only.
        var storage: URL?
        while part.count < size {
            let before = part.count
            do {
                storage = try await bringPiece(to: part, from: storage ?? start)
                if part.count > before { patience.seeProgress() }
            } catch let interruption as Interruption {
                storage = nil
                if part.count > before { patience.seeProgress() }
                try await wait(&patience, after: interruption, received: part.count)
            }
        }
    }

    /// Asks for the next bytes.
    ///
    /// - Returns: the address that they came from.
    private func bringPiece(to part: PartialFile, from address: URL) async throws -> URL {
        let first = part.count
        let range = first..<min(size, first + max(1, client.settings.bytesPerRequest))
        let hasBegun = Mutex(false)
        let (response, url) = try await client.send("GET", address, range: range) { response, data in
            guard response.statusCode == 200 || response.statusCode == 206 else { return }
            let isFirst = hasBegun.withLock { begun in
                defer { begun = true }
                return !begun
            }
            if isFirst { try begin(part, with: response, at: first, from: address) }
            try part.append(data)
            meter.add(bytes: data.count)
        }
        if response.statusCode == 416 {
            meter.add(bytes: -part.count)
            try part.restart()
        } else {
            try client.check(response, from: url, of: name, file: path)
        }
        if part.count == first || part.count == 0 {
            throw Interruption(kind: .connection("an answer without bytes"), host: url.host() ?? "", path: url.path())
        }
        return url
    }

    /// Looks whether the bytes that begin to come are the ones that were asked for.
    private func begin(_ part: PartialFile, with response: HTTPURLResponse, at first: Int, from url: URL) throws {
        if response.statusCode == 200 {
            // A server that knows no ranges sends all.
            if part.count > 0 {
                meter.add(bytes: -part.count)
                try part.restart()
            }
            return
        }
        let text = response.value(forHTTPHeaderField: "Content-Range") ?? ""
        guard let found = text.wholeMatch(of: #/bytes (\d{1,18})-(\d{1,18})\/(\d{1,18}|\*)/#),
            Int(found.1) == first, found.3 == "*" || Int(found.3) == size
        else {
            throw client.malformed(url, "bytes from \(first) of \(size) were asked for; it has '\(text)'")
        }
    }

    private func wait(_ patience: inout Patience, after interruption: Interruption, received: Int) async throws {
        do {
            try await patience.wait(after: interruption)
        } catch HubError.unreachable(_, _, let attempts, let reason) where received > 0 {
            throw HubError.connectionLost(
                file: path, received: received, expected: size, attempts: attempts, reason: reason)
        }
    }
}
