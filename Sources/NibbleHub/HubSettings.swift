public import Foundation

/// Where the Hub is, where its files are kept, and who asks: the environment variables of `huggingface_hub`
/// (<https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>), with their defaults.
public struct HubSettings: Sendable {
    /// The server: `HF_ENDPOINT`, else `https://huggingface.co`. Without a slash at its end.
    public var endpoint: URL
    /// Who asks: `HF_TOKEN`, else the file that `hf auth login` writes. Sent to the endpoint's host alone.
    public var token: String?
    /// The folder of the cache: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `~/.cache/huggingface/hub`.
    public var cache: String
    /// `HF_HUB_OFFLINE`: only the cache is looked at.
    public var isOffline: Bool
    /// How often a request is tried.
    public var retries = RetryPolicy()
    /// Files that come at the same time. More gain little: the network is the limit.
    public var simultaneousFiles = 4
    /// Bytes of one request. What has come but is not yet written stays in memory, so this bounds it; each request
    /// costs a round trip, so much less is slower.
    public var bytesPerRequest = 64 << 20
    /// Seconds without a byte after which a connection counts as lost.
    public var idleTimeout: TimeInterval = 30

    /// Reads an environment.
    ///
    /// - Parameter environment: variables by name.
    /// - Throws: `HubError.invalidSetting`.
    public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws(HubError) {
        func value(_ names: String...) -> String? {
            names.lazy.compactMap { environment[$0] }.first { !$0.isEmpty }
        }
        let user = environment["HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? NSHomeDirectory()
        func expanded(_ path: String) -> String {
            path == "~" || path.hasPrefix("~/") ? user + path.dropFirst() : path
        }
        let caches = value("XDG_CACHE_HOME").map(expanded) ?? user + "/.cache"
        let home = value("HF_HOME").map(expanded) ?? caches + "/huggingface"
        cache = value("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE").map(expanded) ?? home + "/hub"
        endpoint = try Self.endpoint(value("HF_ENDPOINT") ?? "https://huggingface.co")
        isOffline = Self.isTrue(value("HF_HUB_OFFLINE") ?? value("TRANSFORMERS_OFFLINE"))
        if let token = value("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") {
            self.token = try Self.token(token, from: "HF_TOKEN")
        } else if !Self.isTrue(value("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
            let path = value("HF_TOKEN_PATH").map(expanded) ?? home + "/token"
            token = try Self.token(Self.smallFile(path) ?? "", from: path)
        }
    }

    /// The values that `huggingface_hub` takes for true.
    private static func isTrue(_ text: String?) -> Bool {
        ["1", "ON", "YES", "TRUE"].contains((text ?? "").uppercased())
    }

    private static func endpoint(_ text: String) throws(HubError) -> URL {
        var trimmed = text
        while trimmed.hasSuffix("/") { trimmed.removeLast() }
        guard let url = URL(string: trimmed), ["http", "https"].contains(url.scheme?.lowercased()),
            url.host()?.isEmpty == false, url.query == nil, url.user == nil
        else {
            throw .invalidSetting(
                name: "HF_ENDPOINT", reason: "found '\(text)'; expected an address such as https://huggingface.co")
        }
        return url
    }

    /// A token as it goes into a header: a line end inside would begin another one.
    private static func token(_ text: String, from source: String) throws(HubError) -> String? {
        let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard !trimmed.isEmpty else { return nil }
        guard trimmed.utf8.allSatisfy({ (0x21..<0x7f).contains($0) }), trimmed.utf8.count <= maximumTokenLength else {
            throw .invalidSetting(name: source, reason: "this is no token: it has spaces, or is very long")
        }
        return trimmed
    }

    /// Tokens of the Hub have 37 characters, signed ones a few hundred.
    private static let maximumTokenLength = 8192

    private static func smallFile(_ path: String) -> String? {
        guard let file = FileHandle(forReadingAtPath: path) else { return nil }
        defer { try? file.close() }
        return (try? file.read(upToCount: maximumTokenLength + 2)).map { String(decoding: $0, as: UTF8.self) }
    }
}

/// How often a request is tried, and how long is waited in between.
public struct RetryPolicy: Sendable {
    /// Tries without a byte of progress before it is given up.
    public var attempts = 6
    /// Tries to reach a server that has not answered yet: who has mistyped a path should not wait long.
    public var attemptsToConnect = 3
    /// Before the second try; doubled for each further one.
    public var firstDelay = Duration.milliseconds(500)
    /// No pause that we choose is longer.
    public var longestDelay = Duration.seconds(30)
    /// A server that asks for a longer pause is not waited for: a person decides.
    public var longestRequestedDelay = Duration.seconds(300)

    /// The values above.
    public init() {}
}
