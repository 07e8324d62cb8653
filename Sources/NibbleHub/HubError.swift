internal import Foundation

/// What kept a model of the Hub from being here. Every case says what to do.
public enum HubError: Error, Equatable, CustomStringConvertible {
    /// A text that is neither a path nor a model's name.
    case invalidName(String, reason: String)
    /// An environment variable that cannot be used.
    case invalidSetting(name: String, reason: String)
    /// The model's owner wants its terms accepted first.
    case gated(model: String, page: String, hasToken: Bool)
    /// The server wants to know who asks, or does not take the token.
    case unauthorized(model: String, host: String, hasToken: Bool)
    /// There is no such model, or not for us to see.
    case missingModel(model: String, host: String, hasToken: Bool)
    /// The model has no such branch, tag or commit.
    case missingRevision(model: String, revision: String)
    /// The model has no such file or folder.
    case missingFile(model: String, revision: String, file: String)
    /// Nothing in the model is what was asked for.
    case nothingMatches(model: String, wanted: String)
    /// The model is a collection of transformers, and the name does not say which.
    case severalTransformers(model: String, files: [String])
    /// The model's transformers are in NVIDIA's 4-bit floats, all of them.
    case onlyNVFP4(model: String, files: [String])
    /// The server asks to wait longer than we do.
    case rateLimited(host: String, seconds: Int?, hasToken: Bool)
    /// The network must not be used, and the cache does not have it.
    case offline(model: String, missing: [String], cache: String)
    /// No answer, after several tries.
    case unreachable(model: String, host: String, attempts: Int, reason: String)
    /// The connection broke again and again while a file came.
    case connectionLost(file: String, received: Int, expected: Int, attempts: Int, reason: String)
    /// An answer that says nothing but a number.
    case refused(host: String, path: String, status: Int)
    /// An answer that cannot be understood or must not be believed.
    case malformedAnswer(host: String, path: String, reason: String)
    /// A file arrived with another content than the model's listing says.
    case wrongContent(file: String, found: String, expected: String)
    /// The disk has no room for what is missing.
    case noSpace(path: String, needed: Int, available: Int)
    /// The cache cannot be read or written.
    case inaccessible(path: String, reason: String)

    /// What is wrong and what to do about it, for people.
    public var description: String {
        switch self {
        case .invalidName, .invalidSetting, .missingModel, .missingRevision, .missingFile, .nothingMatches,
            .severalTransformers, .onlyNVFP4:
            namingFault
        case .gated, .unauthorized, .rateLimited: accessFault
        case .offline, .unreachable, .connectionLost, .refused, .malformedAnswer: connectionFault
        case .wrongContent, .noSpace, .inaccessible: storageFault
        }
    }

    private var namingFault: String {
        switch self {
        case .invalidName(let text, let reason):
            "'\(text.onOneLine)' is neither a path on this machine nor a model's name (OWNER/NAME[/FILE][@REVISION]): "
                + reason
        case .invalidSetting(let name, let reason): "\(name): \(reason.onOneLine)"
        case .missingModel(let model, let host, let hasToken):
            "\(model): no path on this machine, and \(host) has no such model"
                + (hasToken
                    ? ", or your token may not see it; check the spelling and the token's rights"
                    : ", or it is private; check the spelling, or set HF_TOKEN to a token that may read it")
        case .missingRevision(let model, let revision):
            "\(model): there is no branch, tag or commit '\(revision.onOneLine)'; its page lists them under 'Files'"
        case .missingFile(let model, let revision, let file):
            "\(model): revision '\(revision.onOneLine)' has no file or folder '\(file.onOneLine)'; "
                + "its page lists them under 'Files'"
        case .nothingMatches(let model, let wanted): "\(model): holds nothing of \(wanted.onOneLine)"
        case .severalTransformers(let model, let files):
            "\(model): holds several 4-bit transformers: \(Self.list(files)); name one of them, as in "
                + Self.naming(files.first ?? "FILE", of: model)
        case .onlyNVFP4(let model, let files):
            "\(model): holds transformers in NVFP4 alone (\(Self.list(files))), which only NVIDIA's newest processors "
                + "compute with; expected an INT4 one, named svdq-int4…safetensors"
        default: ""
        }
    }

    private var accessFault: String {
        switch self {
        case .gated(let model, let page, let hasToken):
            "\(model): its owner asks you to accept the terms first: log in and accept them on \(page), then "
                + (hasToken
                    ? "try again; if you have, the token is another account's or may not read gated models"
                    : "set HF_TOKEN to a token of that account (Settings, Access Tokens) and try again")
        case .unauthorized(let model, let host, let hasToken):
            hasToken
                ? "\(model): \(host) does not take the token; make a new one that may read models, and set HF_TOKEN"
                : "\(model): \(host) wants a token: the model is private, or there is none of this name; check the "
                    + "spelling, or set HF_TOKEN to a token that may read it"
        case .rateLimited(let host, let seconds, let hasToken):
            "\(host) answers no more for now: too many requests; try again "
                + (seconds.map { "in \($0) s" } ?? "later") + ", what has arrived is kept"
                + (hasToken ? "" : "; with a token (HF_TOKEN) more are permitted")
        default: ""
        }
    }

    private var connectionFault: String {
        switch self {
        case .offline(let model, let missing, let cache):
            "\(model): not complete in \(cache), and HF_HUB_OFFLINE forbids to download"
                + (missing.isEmpty ? "" : ": missing " + Self.list(missing)) + "; unset it, or 'nibble pull' it before"
        case .unreachable(let model, let host, let attempts, let reason):
            "\(model): no path on this machine, and \(host) does not answer (\(attempts) tries): \(reason.onOneLine); "
                + "check the spelling, the connection, a proxy (https_proxy), or HF_ENDPOINT"
        case .connectionLost(let file, let received, let expected, let attempts, let reason):
            "\(file.onOneLine): the connection broke \(attempts) times without a byte at \(received) of \(expected) "
                + "bytes: \(reason.onOneLine); run it again, it goes on from there"
        case .refused(let host, let path, let status):
            "\(host) answers \(status) to \(path.onOneLine); try again later, or check HF_ENDPOINT"
        case .malformedAnswer(let host, let path, let reason):
            "\(host): the answer to \(path.onOneLine) is not a Hub's: \(reason.onOneLine); check HF_ENDPOINT"
        default: ""
        }
    }

    private var storageFault: String {
        switch self {
        case .wrongContent(let file, let found, let expected):
            "\(file.onOneLine): arrived as \(found), expected \(expected); nothing of it was kept. Run it again; if it "
                + "happens again, a proxy or mirror changes the file"
        case .noSpace(let path, let needed, let available):
            "\(path): \(needed) bytes are to come, \(available) are free; free some, or set HF_HUB_CACHE to another disk"
        case .inaccessible(let path, let reason): "\(path): \(reason)"
        default: ""
        }
    }

    /// OWNER/NAME/FILE[@REVISION].
    private static func naming(_ file: String, of model: String) -> String {
        let parts = model.split(separator: "@", maxSplits: 1)
        return "\(parts.first ?? "")/\(file.onOneLine)" + (parts.count == 2 ? "@\(parts[1])" : "")
    }

    private static func list(_ names: [String]) -> String {
        names.prefix(5).map(\.onOneLine).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
    }
}

extension HubError {
    /// A failed call of the system, with the system's own words.
    static func inaccessible(_ path: String, errno code: Int32) -> HubError {
        .inaccessible(path: path, reason: String(cString: strerror(code)))
    }
}
