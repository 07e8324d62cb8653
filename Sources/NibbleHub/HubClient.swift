internal import Foundation
internal import Synchronization

#if canImport(FoundationNetworking)
    internal import FoundationNetworking
#endif

/// The Hub's protocol: which address, which headers, what an answer means.
///
/// Sources: <https://huggingface.co/docs/hub/api>; for headers and error codes `huggingface_hub`'s
/// `file_download.py` and `utils/_http.py`.
struct HubClient: Sendable {
    let settings: HubSettings
    private let transport: HubTransport

    /// A listing of 100,000 files has about 30 MB.
    private static let maximumAnswer = 64 << 20
    /// Two are usual: a renamed model, then the storage.
    private static let maximumRedirects = 8
    private static let redirects = [301, 302, 303, 307, 308]

    init(_ settings: HubSettings) {
        self.settings = settings
        // Room for a listing beside the files.
        transport = HubTransport(idleTimeout: settings.idleTimeout, connections: settings.simultaneousFiles + 1)
    }

    /// Asks what a model holds.
    ///
    /// - Parameter name: of the model; its file is not looked at.
    /// - Returns: its files at the commit that its revision means.
    /// - Throws: `HubError`, `CancellationError`.
    func listing(of name: HubName) async throws -> HubListing {
        let url = address(["api", "models"], name.model.split(separator: "/"), ["revision", name.revision[...]])
            .appending(queryItems: [URLQueryItem(name: "blobs", value: "true")])
        var patience = Patience(settings, model: "\(name)", isFirstContact: true)
        while true {
            do {
                let body = Mutex(Data())
                let (response, _) = try await send("GET", url) { _, data in
                    try body.withLock { body in
                        guard body.count + data.count <= Self.maximumAnswer else {
                            throw malformed(url, "it has more than \(Self.maximumAnswer) bytes")
                        }
                        body.append(data)
                    }
                }
                try check(response, from: url, of: name)
                return try listing(from: body.withLock { $0 }, at: url)
            } catch let interruption as Interruption {
                try await patience.wait(after: interruption)
            }
        }
    }

    /// Asks for size and content of a file whose listing does not say them.
    func described(_ file: HubListing.File, of name: HubName, at commit: String) async throws -> HubListing.File {
        let url = address(of: file.path, of: name.model, at: commit)
        var patience = Patience(settings, model: "\(name)")
        while true {
            do {
                // The endpoint's own answer tells, even where it sends elsewhere.
                let (response, _) = try await send("HEAD", url, leavesEndpoint: false) { _, _ in }
                if !Self.redirects.contains(response.statusCode) {
                    try check(response, from: url, of: name, file: file.path)
                }
                return try described(file, by: response, from: url, at: commit)
            } catch let interruption as Interruption {
                try await patience.wait(after: interruption)
            }
        }
    }

    private func described(
        _ file: HubListing.File, by response: HTTPURLResponse, from url: URL, at commit: String
    ) throws(HubError) -> HubListing.File {
        let isRedirect = Self.redirects.contains(response.statusCode)
        let size =
            response.value(forHTTPHeaderField: "X-Linked-Size")
            ?? (isRedirect ? nil : response.value(forHTTPHeaderField: "Content-Length"))
        let etag =
            response.value(forHTTPHeaderField: "X-Linked-ETag")
            ?? (isRedirect ? nil : response.value(forHTTPHeaderField: "ETag"))
        if let found = response.value(forHTTPHeaderField: "X-Repo-Commit"), found != commit {
            throw malformed(url, "it is of commit \(found), not of \(commit)")
        }
        guard let size = size.flatMap({ Int($0) }), size >= 0, let id = etag.flatMap({ ContentID(etag: $0) }) else {
            throw malformed(url, "it does not say the file's size and entity tag")
        }
        return HubListing.File(path: file.path, size: size, id: id)
    }

    /// The address of a file's bytes at the endpoint.
    func address(of path: String, of model: String, at commit: String) -> URL {
        address(model.split(separator: "/"), ["resolve", commit[...]], path.split(separator: "/"))
    }

    /// Sends a request and follows where it is sent.
    ///
    /// - Parameters:
    ///   - method: `GET` or `HEAD`.
    ///   - start: the first address.
    ///   - range: bytes to ask for.
    ///   - leavesEndpoint: whether redirects to other hosts are followed.
    ///   - receive: gets the last answer's body.
    /// - Returns: the last answer's head, and the address that it is from.
    /// - Throws: `Interruption` where there was no whole answer, `HubError`, `CancellationError`.
    func send(
        _ method: String, _ start: URL, range: Range<Int>? = nil, leavesEndpoint: Bool = true,
        receive: @escaping HubTransport.Receiver
    ) async throws -> (HTTPURLResponse, URL) {
        var url = start
        for _ in 0...Self.maximumRedirects {
            let response = try await sendOnce(request(method, url, range: range)) { response, data in
                if !Self.redirects.contains(response.statusCode) { try receive(response, data) }
            }
            guard Self.redirects.contains(response.statusCode),
                let location = response.value(forHTTPHeaderField: "Location")
            else { return (response, url) }
            let next = try redirect(to: location, from: url)
            if !leavesEndpoint, !Origin(next).isSame(as: settings.endpoint) { return (response, url) }
            url = next
        }
        throw malformed(start, "it is sent on more than \(Self.maximumRedirects) times")
    }

    private func sendOnce(
        _ request: URLRequest, receive: @escaping HubTransport.Receiver
    ) async throws -> HTTPURLResponse {
        do {
            return try await transport.send(request, receive: receive)
        } catch let error as URLError {
            let url = request.url ?? settings.endpoint
            throw Interruption(
                kind: .connection(error.localizedDescription), host: url.host() ?? "", path: url.path())
        }
    }

    private func request(_ method: String, _ url: URL, range: Range<Int>?) -> URLRequest {
        var request = URLRequest(url: url)
        request.httpMethod = method
        request.setValue("nibble", forHTTPHeaderField: "User-Agent")
        // Packed bytes could not be counted, nor asked for from the middle.
        request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
        if let range {
            request.setValue("bytes=\(range.lowerBound)-\(range.upperBound - 1)", forHTTPHeaderField: "Range")
        }
        // Storage of other hosts has its own signature in the address, and no business with the token.
        if let token = settings.token, Origin(url).isSame(as: settings.endpoint) {
            request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization")
        }
        return request
    }

    private func redirect(to location: String, from url: URL) throws(HubError) -> URL {
        guard let next = URL(string: location, relativeTo: url)?.absoluteURL, next.host()?.isEmpty == false,
            let scheme = next.scheme?.lowercased(), ["http", "https"].contains(scheme)
        else { throw malformed(url, "it sends to '\(location)'") }
        guard !(url.scheme?.lowercased() == "https" && scheme == "http") else {
            throw malformed(url, "it sends from an encrypted connection to one that is not")
        }
        return next
    }

    /// Says what an answer without success means.
    ///
    /// - Throws: `Interruption` where another try may help, else `HubError`.
    func check(_ response: HTTPURLResponse, from url: URL, of name: HubName, file: String? = nil) throws {
        let status = response.statusCode
        if (200...299).contains(status) { return }
        let host = url.host() ?? ""
        let hasToken = settings.token != nil
        // What storage elsewhere refuses is a signature that has run out: the endpoint gives a new one.
        let isStorage = !Origin(url).isSame(as: settings.endpoint)
        if status == 408 || status == 429 || (500...599).contains(status) || isStorage {
            throw Interruption(
                kind: .status(status), host: host, path: url.path(), requestedDelay: Self.requestedDelay(response))
        }
        switch (status, response.value(forHTTPHeaderField: "X-Error-Code")) {
        case (_, "GatedRepo"):
            let page = settings.endpoint.appending(path: name.model).absoluteString
            throw HubError.gated(model: name.model, page: page, hasToken: hasToken)
        case (_, "RepoNotFound"),
            (404, nil) where file == nil,
            (404, "EntryNotFound") where file == nil:
            throw HubError.missingModel(model: name.model, host: host, hasToken: hasToken)
        case (_, "RevisionNotFound"): throw HubError.missingRevision(model: name.model, revision: name.revision)
        case (_, "EntryNotFound"), (404, nil):
            throw HubError.missingFile(model: name.model, revision: name.revision, file: file ?? "")
        // Without a token the Hub does not tell a missing model from a private one.
        case (401, _), (403, _): throw HubError.unauthorized(model: name.model, host: host, hasToken: hasToken)
        default: throw HubError.refused(host: host, path: url.path(), status: status)
        }
    }

    /// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), else the `t` of `RateLimit`, which the Hub sends
    /// (<https://huggingface.co/docs/hub/rate-limits>).
    private static func requestedDelay(_ response: HTTPURLResponse) -> Int? {
        if let text = response.value(forHTTPHeaderField: "Retry-After") {
            if let seconds = Int(text) { return max(0, seconds) }
            let format = DateFormatter()
            format.locale = Locale(identifier: "en_US_POSIX")
            format.timeZone = TimeZone(identifier: "GMT")
            format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss zzz"
            // Dates far away are beyond every patience; as numbers they must fit.
            return format.date(from: text).map { Int(min(max(0, $0.timeIntervalSinceNow.rounded(.up)), 1e9)) }
        }
        let limit = response.value(forHTTPHeaderField: "RateLimit")
        return limit?.firstMatch(of: #/;\s*t=(\d{1,9})/#).flatMap { Int($0.1) }
    }

    private func listing(from data: Data, at url: URL) throws(HubError) -> HubListing {
        guard let answer = try? JSONDecoder().decode(ModelAnswer.self, from: data) else {
            throw malformed(url, "it is not the JSON of a model with 'sha' and 'siblings'")
        }
        guard let listing = answer.listing else {
            throw malformed(url, "its commit, a path or a size cannot be one")
        }
        return listing
    }

    func malformed(_ url: URL, _ reason: String) -> HubError {
        .malformedAnswer(host: url.host() ?? "", path: url.path(), reason: reason)
    }

    private func address(_ parts: [Substring]...) -> URL {
        // What may stand in a path's part as it is: the unreserved characters of RFC 3986.
        let text = parts.joined().map { part in
            part.addingPercentEncoding(withAllowedCharacters: .unreserved) ?? String(part)
        }
        return URL(string: settings.endpoint.absoluteString + "/" + text.joined(separator: "/")) ?? settings.endpoint
    }
}

extension CharacterSet {
    fileprivate static let unreserved = CharacterSet(
        charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
}

/// Scheme, host and port: what a token is for (RFC 6454).
struct Origin: Equatable {
    private let scheme: String?
    private let host: String?
    private let port: Int?

    init(_ url: URL) {
        scheme = url.scheme?.lowercased()
        host = url.host()?.lowercased()
        port = url.port ?? ["http": 80, "https": 443][scheme ?? ""]
    }

    func isSame(as url: URL) -> Bool { self == Origin(url) }
}
