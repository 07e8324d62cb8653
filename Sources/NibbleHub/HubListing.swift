internal import Foundation

/// What a model holds at one commit.
struct HubListing: Sendable, Equatable {
    struct File: Sendable, Equatable {
        /// From the model's root.
        let path: String
        /// In bytes; `nil` where the server did not say.
        var size: Int?
        /// `nil` where the server did not say.
        var id: ContentID?
    }

    /// 40 hexadecimal digits.
    let commit: String
    /// By path.
    let files: [File]

    /// - Returns: `nil` where the commit is none, or a file's path would leave the folder that it is put in.
    init?(commit: String, files: [File]) {
        guard HubName.isCommit(commit), files.allSatisfy({ HubName.isSafePath($0.path) }),
            files.allSatisfy({ ($0.size ?? 0) >= 0 })
        else { return nil }
        self.commit = commit
        self.files = files.sorted { $0.path < $1.path }
    }
}

/// The answer to `/api/models/{name}/revision/{revision}?blobs=true`.
///
/// Source: <https://huggingface.co/docs/hub/api>.
struct ModelAnswer: Decodable {
    struct Sibling: Decodable {
        struct LargeFile: Decodable {
            let sha256: String?
            let size: Int?
        }

        let rfilename: String
        let size: Int?
        let blobId: String?
        let lfs: LargeFile?
    }

    let sha: String
    let siblings: [Sibling]

    var listing: HubListing? {
        HubListing(
            commit: sha,
            files: siblings.map { sibling in
                let id = sibling.lfs == nil ? sibling.blobId : sibling.lfs?.sha256
                return HubListing.File(
                    path: sibling.rfilename, size: sibling.lfs?.size ?? sibling.size, id: id.flatMap { ContentID($0) })
            })
    }
}

/// A listing in the cache, in the form that `huggingface_hub` (from 2.0, `trees/{commit}.json`) writes.
struct StoredListing: Codable {
    struct File: Codable {
        let size: Int
        let blobId: String
        var lfsSha256: String?
        var lfsSize: Int?

        private enum CodingKeys: String, CodingKey {
            case size
            case blobId = "blob_id"
            case lfsSha256 = "lfs_sha256"
            case lfsSize = "lfs_size"
        }
    }

    /// The only version there is.
    static let currentVersion = 1

    let formatVersion: Int
    let files: [String: File]

    private enum CodingKeys: String, CodingKey {
        case formatVersion = "format_version"
        case files
    }

    /// Files whose size or content is not known are left out.
    init(_ listing: HubListing) {
        formatVersion = Self.currentVersion
        let known = listing.files.compactMap { file -> (String, File)? in
            guard let size = file.size, let id = file.id else { return nil }
            let isLarge = id.kind == .sha256
            return (
                file.path,
                File(
                    size: size, blobId: id.description, lfsSha256: isLarge ? id.description : nil,
                    lfsSize: isLarge ? size : nil)
            )
        }
        files = Dictionary(known) { first, _ in first }
    }

    func listing(commit: String) -> HubListing? {
        guard formatVersion == Self.currentVersion else { return nil }
        return HubListing(
            commit: commit,
            files: files.map { path, file in
                HubListing.File(
                    path: path, size: file.lfsSize ?? file.size, id: ContentID(file.lfsSha256 ?? file.blobId))
            })
    }
}
