internal import Foundation

/// The folder that `huggingface_hub` and we share.
///
///     models--owner--name/blobs/<id>                      a content, under its hash
///     models--owner--name/refs/<revision>                 the commit that a branch or tag was at
///     models--owner--name/snapshots/<commit>/<file>       a relative link to its blob
///     models--owner--name/nibble/<commit>.json            what the model holds; ours
///     .locks/models--owner--name/<id>.lock                held while a blob comes
///
/// Source: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>. Our listings are not in `trees/`, where
/// `huggingface_hub` 2 has its own: with one there it takes a snapshot of only the files that we need for incomplete.
struct HubCache: Sendable {
    /// The folder of all models.
    let root: String
    /// `owner/name`.
    let model: String

    private var folderName: String { "models--" + model.replacing("/", with: "--") }

    private var folder: String { root + "/" + folderName }

    private func reference(_ revision: String) -> String { folder + "/refs/" + revision }

    func blob(_ id: ContentID) -> String { folder + "/blobs/" + id.description }

    /// What has come of a blob so far; the name is that of `huggingface_hub` before 1.0, which goes on with it too.
    func partialBlob(_ id: ContentID) -> String { blob(id) + ".incomplete" }

    func lock(_ id: ContentID) -> String { root + "/.locks/" + folderName + "/" + id.description + ".lock" }

    /// The folder of a model at a commit.
    func snapshot(_ commit: String) -> String { folder + "/snapshots/" + commit }

    /// The commit that a revision means, as far as the cache knows.
    func commit(of revision: String) -> String? {
        if HubName.isCommit(revision) { return revision }
        let text = smallFile(reference(revision), limit: 256).map { String(decoding: $0, as: UTF8.self) }
        let commit = text?.trimmingCharacters(in: .whitespacesAndNewlines)
        return commit.flatMap { HubName.isCommit($0) ? $0 : nil }
    }

    /// What a model holds at a commit: our listing, or the one that `huggingface_hub` keeps.
    func listing(_ commit: String) -> HubListing? {
        for path in [folder + "/nibble/\(commit).json", folder + "/trees/\(commit).json"] {
            // The longest listings in the field have some 100,000 files.
            if let data = smallFile(path, limit: 64 << 20),
                let stored = try? JSONDecoder().decode(StoredListing.self, from: data)
            {
                return stored.listing(commit: commit)
            }
        }
        return nil
    }

    /// The paths of the files that a snapshot has, where no listing says which ones it should have.
    func namesInSnapshot(_ commit: String) -> [String] {
        let snapshot = snapshot(commit)
        let names = FileManager.default.enumerator(atPath: snapshot)?.compactMap { $0 as? String } ?? []
        return names.filter { Self.size(snapshot + "/" + $0) != nil }.sorted()
    }

    /// Whether a file of a snapshot is there, with all its bytes.
    func has(_ file: HubListing.File, at commit: String) -> Bool {
        guard let size = Self.size(snapshot(commit) + "/" + file.path) else { return false }
        return size == file.size ?? size
    }

    /// Whether a blob is there, with all its bytes.
    func hasBlob(_ id: ContentID, size: Int) -> Bool { Self.size(blob(id)) == size }

    /// The bytes that an earlier try left of a blob.
    func partialSize(_ id: ContentID) -> Int { Self.size(partialBlob(id)) ?? 0 }

    /// Puts a file into a snapshot: a link to its blob, relative, so that the cache may be moved.
    func link(_ path: String, to id: ContentID, at commit: String) throws(HubError) {
        let place = snapshot(commit) + "/" + path
        let upward = String(repeating: "../", count: 2 + path.utf8.count { $0 == UInt8(ascii: "/") })
        let target = upward + "blobs/" + id.description
        if (try? FileManager.default.destinationOfSymbolicLink(atPath: place)) == target { return }
        try Self.makeFolder(of: place)
        // Made under another name and renamed: nobody sees a moment without the file.
        let temporary = place + "." + UUID().uuidString
        guard symlink(target, temporary) == 0, rename(temporary, place) == 0 else {
            let code = errno
            unlink(temporary)
            throw .inaccessible(place, errno: code)
        }
    }

    /// Notes the commit that a branch or tag is at.
    func setCommit(_ commit: String, of revision: String) throws(HubError) {
        if revision == commit || self.commit(of: revision) == commit { return }
        try write(Data(commit.utf8), to: reference(revision))
    }

    /// Notes what a model holds.
    func store(_ listing: HubListing) throws(HubError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        guard let data = try? encoder.encode(StoredListing(listing)) else { return }
        try write(data, to: folder + "/nibble/\(listing.commit).json")
    }

    /// Bytes that may be written to the disk of the cache.
    ///
    /// - Returns: `nil` where the system does not say.
    func freeBytes() -> Int? {
        var path = root
        var space = statvfs()
        while statvfs(path, &space) != 0 {
            let parent = (path as NSString).deletingLastPathComponent
            guard parent != path, !parent.isEmpty else { return nil }
            path = parent
        }
        let (bytes, isHuge) = UInt64(space.f_bavail).multipliedReportingOverflow(by: UInt64(space.f_frsize))
        return isHuge ? Int.max : Int(clamping: bytes)
    }

    /// Makes the folders above a path.
    static func makeFolder(of path: String) throws(HubError) {
        let folder = (path as NSString).deletingLastPathComponent
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        } catch {
            throw .inaccessible(
                path: folder, reason: "the folder cannot be made; may you write there? HF_HUB_CACHE names another")
        }
    }

    /// Writes a small file in one step: a reader sees the old one or the new one.
    private func write(_ data: Data, to path: String) throws(HubError) {
        try Self.makeFolder(of: path)
        do {
            try data.write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw .inaccessible(path: path, reason: error.localizedDescription)
        }
    }

    private func smallFile(_ path: String, limit: Int) -> Data? {
        guard let size = Self.size(path), size <= limit else { return nil }
        return FileManager.default.contents(atPath: path)
    }

    /// The size of a file, or of what a link leads to; `nil` for none.
    private static func size(_ path: String) -> Int? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return Int(status.st_size)
    }
}
