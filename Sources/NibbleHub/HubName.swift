internal import Foundation

/// A model of the Hugging Face Hub as a person names it: `OWNER/NAME[/FILE][@REVISION]`.
///
/// Owner and name are what the Hub permits (<https://huggingface.co/docs/hub/repositories-settings>; the rules are those
/// of `validate_repo_id` in `huggingface_hub`): letters, digits, `-`, `_` and `.`, at most 96 characters together.
public struct HubName: Sendable, Hashable, CustomStringConvertible {
    /// `OWNER/NAME`.
    public let model: String
    /// A file or a folder of the model, from its root; `nil` for the whole model.
    public let file: String?
    /// A branch, a tag, or a commit of 40 hexadecimal digits.
    public let revision: String

    /// The branch that is meant where none is named.
    public static let defaultRevision = "main"

    /// A name from its parts.
    ///
    /// - Throws: `HubError.invalidName` for a part that the Hub does not permit.
    public init(model: String, file: String? = nil, revision: String = HubName.defaultRevision) throws(HubError) {
        let text = model + (file.map { "/" + $0 } ?? "")
        if let reason = Self.fault(ofModel: model) { throw .invalidName(text, reason: reason) }
        if let file, !Self.isSafePath(file) {
            throw .invalidName(text, reason: "'\(file.onOneLine)' is not a path inside a model")
        }
        if let reason = Self.fault(ofRevision: revision) { throw .invalidName(text, reason: reason) }
        self.model = model
        self.file = file
        self.revision = revision
    }

    /// Reads `OWNER/NAME[/FILE][@REVISION]`; the last `@` begins the revision.
    ///
    /// - Throws: `HubError.invalidName`.
    public init(_ text: String) throws(HubError) {
        guard text.utf8.count <= Self.maximumLength else {
            throw .invalidName(text, reason: "\(text.utf8.count) bytes are too long for a name")
        }
        let at = text.lastIndex(of: "@")
        let path = text[..<(at ?? text.endIndex)]
        let revision = at.map { String(text[text.index(after: $0)...]) }
        let parts = path.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2 else {
            throw .invalidName(text, reason: "a model's name has an owner: OWNER/NAME")
        }
        try self.init(
            model: parts[0] + "/" + parts[1], file: parts.count == 3 ? String(parts[2]) : nil,
            revision: revision ?? Self.defaultRevision)
    }

    /// As it is written on a command line.
    public var description: String {
        model + (file.map { "/" + $0 } ?? "") + (revision == Self.defaultRevision ? "" : "@" + revision)
    }

    /// Whether a text means a path and never a name: it begins as paths do, or has no owner.
    static func looksLikePath(_ text: String) -> Bool {
        text.isEmpty || text.hasPrefix("/") || text.hasPrefix("./") || text.hasPrefix("../") || text.hasPrefix("~")
            || !text.contains("/")
    }

    /// Longer texts are no names; file systems end at 255 bytes a part and 4096 a path.
    private static let maximumLength = 1024
    /// Of `OWNER/NAME`, on the Hub.
    private static let maximumModelLength = 96

    private static func fault(ofModel model: String) -> String? {
        let parts = model.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return "a model's name is OWNER/NAME" }
        guard model.utf8.count <= maximumModelLength else { return "OWNER/NAME has more than 96 characters" }
        for part in parts {
            guard let first = part.utf8.first, let last = part.utf8.last else { return "owner or name is empty" }
            guard part.utf8.allSatisfy({ $0.isLetterOrDigit || "-_.".utf8.contains($0) }) else {
                return "owner and name consist of letters, digits, '-', '_' and '.'"
            }
            guard !"-.".utf8.contains(first), !"-.".utf8.contains(last) else {
                return "owner and name neither begin nor end with '-' or '.'"
            }
        }
        guard !model.contains("--"), !model.contains("..") else { return "'--' and '..' are not permitted" }
        return model.hasSuffix(".git") ? "a model's name does not end in '.git'" : nil
    }

    /// Git's rules (git-check-ref-format), a little narrower.
    private static func fault(ofRevision revision: String) -> String? {
        guard !revision.isEmpty else { return "the revision after '@' is empty" }
        guard revision.utf8.allSatisfy({ $0.isLetterOrDigit || "-_./+".utf8.contains($0) }), revision.utf8.count <= 255
        else {
            return "a revision consists of letters, digits, '-', '_', '+', '.' and '/'"
        }
        let parts = revision.split(separator: "/", omittingEmptySubsequences: false)
        let isSafe = parts.allSatisfy { !$0.isEmpty && !$0.hasPrefix(".") && !$0.hasPrefix("-") && !$0.hasSuffix(".") }
        return isSafe && !revision.contains("..")
            ? nil : "'\(revision.onOneLine)' is no name of a branch, tag or commit"
    }

    /// Whether a path from elsewhere stays inside the folder that it is put in.
    static func isSafePath(_ path: String) -> Bool {
        guard path.utf8.count <= maximumLength else { return false }
        guard path.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "\\") }) else { return false }
        return path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
            !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count <= 255
        }
    }

    /// Whether a revision is a commit: 40 hexadecimal digits, as git writes them.
    static func isCommit(_ revision: String) -> Bool {
        revision.utf8.count == 40 && revision.utf8.allSatisfy(\.isLowercaseHexadecimal)
    }
}

extension UInt8 {
    var isLetterOrDigit: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }

    var isLowercaseHexadecimal: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): true
        default: false
        }
    }
}

extension String {
    /// Text from elsewhere as it may be shown on a terminal: control characters escaped, cut where it is absurdly long.
    var onOneLine: String {
        let limit = 300
        let shown = unicodeScalars.prefix(limit).map { scalar in
            scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
        }
        return shown.joined() + (unicodeScalars.dropFirst(limit).isEmpty ? "" : "…")
    }
}
