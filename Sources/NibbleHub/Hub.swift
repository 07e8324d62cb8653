internal import Foundation

/// Models by name: from the cache, and what is missing from the Hub.
public struct Hub: Sendable {
    /// A model's files on this machine.
    public struct Snapshot: Sendable {
        /// The folder that holds the files as the model has them.
        public let folder: String
        /// What the name means in it: the folder, or the file of the name.
        public let path: String
        /// The commit that it is of.
        public let commit: String
        /// The files that were asked for, from the folder.
        public let files: [String]
        /// Of all those files; 0 where they are in the cache and nothing says their sizes.
        public let byteCount: Int
        /// Of those that were not in the cache.
        public let missingByteCount: Int
    }

    /// When the Hub is asked.
    public enum Freshness: Sendable {
        /// Only where the cache lacks something: a branch stays where it was.
        case cached
        /// Always: a branch is looked up.
        case current
    }

    private let settings: HubSettings
    private let client: HubClient

    /// A hub as the settings say.
    public init(_ settings: HubSettings) {
        self.settings = settings
        client = HubClient(settings)
    }

    /// What a text on a command line means: a path that exists, else a model's name, whose files are then fetched.
    ///
    /// - Parameters:
    ///   - text: a path or a name.
    ///   - meaning: what a name stands for.
    ///   - choose: among a model's files.
    ///   - progress: called from any thread while files come.
    /// - Returns: a path; for a text that cannot be a name the text itself, for the reader of the file to complain of.
    /// - Throws: `HubError`, `CancellationError`.
    public static func path(
        of text: String, as meaning: HubMeaning = .asNamed,
        choose: @escaping FileChoice = { NeededFiles.toRun($0) }, progress: HubProgressHandler? = nil
    ) async throws -> String {
        if FileManager.default.fileExists(atPath: text) || HubName.looksLikePath(text) { return text }
        let name = try HubName(text)
        return try await Hub(HubSettings()).snapshot(of: name, as: meaning, choose: choose, progress: progress).path
    }

    /// Makes sure that a model's files are on this machine.
    ///
    /// - Parameters:
    ///   - name: the model, or one file or folder of it.
    ///   - meaning: what the name stands for.
    ///   - choose: among the model's files, or the named folder's; a file that is named itself is always chosen.
    ///   - freshness: when the Hub is asked.
    ///   - progress: called from any thread while files come.
    /// - Returns: where they are. All of them are whole, and were looked at when they came.
    /// - Throws: `HubError`, `CancellationError`.
    public func snapshot(
        of name: HubName, as meaning: HubMeaning = .asNamed,
        choose: @escaping FileChoice = { NeededFiles.toRun($0) }, freshness: Freshness = .cached,
        progress: HubProgressHandler? = nil
    ) async throws -> Snapshot {
        let cache = HubCache(root: settings.cache, model: name.model)
        let cached = Cached(cache, name, meaning, choose)
        if settings.isOffline {
            guard let snapshot = cached.snapshot(trustingFolder: true) else {
                throw cached.fault
                    ?? HubError.offline(model: "\(name)", missing: cached.missing, cache: settings.cache)
            }
            return snapshot
        }
        if freshness == .cached, let snapshot = cached.snapshot(trustingFolder: false) { return snapshot }
        do {
            let listing = try await client.listing(of: name)
            let name = try meaning.resolve(name, among: listing.files.map(\.path))
            return try await download(listing, name, choose, into: cache, progress)
        } catch let error as HubError {
            // Without a network, what huggingface_hub has left here will do.
            guard case .unreachable = error, freshness == .cached,
                let snapshot = cached.snapshot(trustingFolder: true)
            else { throw error }
            return snapshot
        }
    }

    private func download(
        _ listing: HubListing, _ name: HubName, _ choose: FileChoice, into cache: HubCache,
        _ progress: HubProgressHandler?
    ) async throws -> Snapshot {
        let commit = listing.commit
        let chosen = Set(try Self.chosen(listing.files.map(\.path), name, choose))
        var files: [BlobDownload.File] = []
        for file in listing.files where chosen.contains(file.path) {
            let isKnown = file.size != nil && file.id != nil
            let known = isKnown ? file : try await client.described(file, of: name, at: commit)
            guard let file = BlobDownload.File(known) else {
                throw HubError.missingFile(model: name.model, revision: commit, file: file.path)
            }
            files.append(file)
        }
        let known = listing.files.map { file in
            files.first { $0.path == file.path }.map { HubListing.File(path: $0.path, size: $0.size, id: $0.id) }
                ?? file
        }
        let missing = files.filter { !cache.hasBlob($0.id, size: $0.size) }
        let missingBytes = try total(Dictionary(missing.map { ($0.id, $0.size) }) { first, _ in first }.values)
        try checkSpace(for: missing, missingBytes, in: cache)
        for file in files where cache.hasBlob(file.id, size: file.size) {
            try cache.link(file.path, to: file.id, at: commit)
        }
        let meter = ProgressMeter(
            totalBytes: try total(missing.map(\.size)), totalFiles: missing.count, handler: progress)
        try await bring(missing, name: name, commit: commit, into: cache, meter)
        // Only now: until all is here, the cache answers with what it had before.
        if let listing = HubListing(commit: commit, files: known) { try cache.store(listing) }
        try cache.setCommit(commit, of: name.revision)
        return Snapshot(
            cache, name, commit: commit, files: files.map(\.path), byteCount: try total(files.map(\.size)),
            missingByteCount: missingBytes)
    }

    /// Downloads files, some at the same time, the largest first: at the end no long one is left alone.
    private func bring(
        _ files: [BlobDownload.File], name: HubName, commit: String, into cache: HubCache, _ meter: ProgressMeter
    ) async throws {
        var waiting = files.sorted { $0.size < $1.size }
        try await withThrowingTaskGroup(of: Void.self) { group in
            func startNext() {
                guard let file = waiting.popLast() else { return }
                let download = BlobDownload(
                    client: client, cache: cache, name: name, commit: commit, file: file, meter: meter)
                group.addTask { try await download.run() }
            }
            for _ in 0..<max(1, settings.simultaneousFiles) { startNext() }
            while try await group.next() != nil { startNext() }
        }
    }

    private func checkSpace(for files: [BlobDownload.File], _ bytes: Int, in cache: HubCache) throws(HubError) {
        let here = files.reduce(0) { $0 + min($1.size, cache.partialSize($1.id)) }
        guard let free = cache.freeBytes(), bytes - here > free else { return }
        throw .noSpace(path: cache.root, needed: bytes - here, available: free)
    }

    /// A sum of sizes that a server states.
    private func total(_ sizes: some Sequence<Int>) throws(HubError) -> Int {
        var sum = 0
        for size in sizes {
            let (next, isTooLarge) = sum.addingReportingOverflow(size)
            guard !isTooLarge else {
                throw .malformedAnswer(
                    host: settings.endpoint.host() ?? "", path: "the listing", reason: "its sizes have no sum")
            }
            sum = next
        }
        return sum
    }

    fileprivate static func chosen(
        _ paths: [String], _ name: HubName, _ choose: FileChoice
    ) throws(HubError) -> [String] {
        guard let part = name.file else {
            let chosen = choose(paths)
            guard !chosen.isEmpty else { throw .nothingMatches(model: "\(name)", wanted: "what is asked for") }
            return chosen
        }
        let chosen = NeededFiles.part(part, of: paths, choose: choose)
        guard !chosen.isEmpty else { throw .missingFile(model: name.model, revision: name.revision, file: part) }
        return chosen
    }
}

extension Hub.Snapshot {
    fileprivate init(
        _ cache: HubCache, _ name: HubName, commit: String, files: [String], byteCount: Int, missingByteCount: Int
    ) {
        folder = cache.snapshot(commit)
        path = folder + (name.file.map { "/" + $0 } ?? "")
        self.commit = commit
        self.files = files
        self.byteCount = byteCount
        self.missingByteCount = missingByteCount
    }
}

/// What the cache has of what is asked for.
private struct Cached {
    /// Files that are chosen and not whole; empty where nothing says what there should be.
    let missing: [String]
    /// Why the name means nothing here.
    let fault: HubError?
    private let found: Hub.Snapshot?
    /// Whether a listing says that nothing is missing.
    private let isCertain: Bool

    init(_ cache: HubCache, _ given: HubName, _ meaning: HubMeaning, _ choose: FileChoice) {
        guard let commit = cache.commit(of: given.revision) else {
            (missing, fault, found, isCertain) = ([], nil, nil, false)
            return
        }
        let listing = cache.listing(commit)
        let paths = listing.map { $0.files.map(\.path) } ?? cache.namesInSnapshot(commit)
        let name: HubName
        do throws(HubError) {
            name = try meaning.resolve(given, among: paths)
        } catch {
            (missing, fault, found, isCertain) = ([], error, nil, false)
            return
        }
        fault = nil
        let chosen = Set((try? Hub.chosen(paths, name, choose)) ?? [])
        let files = listing?.files.filter { chosen.contains($0.path) } ?? []
        missing = files.filter { !cache.has($0, at: commit) }.map(\.path)
        isCertain = listing != nil
        guard !chosen.isEmpty, missing.isEmpty else {
            found = nil
            return
        }
        let bytes = files.reduce(0) { $0.addingReportingOverflow($1.size ?? 0).partialValue }
        found = Hub.Snapshot(
            cache, name, commit: commit, files: chosen.sorted(), byteCount: bytes, missingByteCount: 0)
    }

    /// What was found, if it is all there is.
    ///
    /// - Parameter trustingFolder: where no listing says what should be there, whether what is there will do.
    /// - Returns: `nil` where something is missing, or may be.
    func snapshot(trustingFolder: Bool) -> Hub.Snapshot? { isCertain || trustingFolder ? found : nil }
}
