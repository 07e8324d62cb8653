internal import Foundation

/// Why a request came to nothing though the next one may not.
struct Interruption: Error {
    enum Kind {
        /// No answer, or one that broke off.
        case connection(String)
        /// 408, 429 or a server's fault.
        case status(Int)
    }

    let kind: Kind
    let host: String
    /// The request's path, without a query: that may be a signature.
    let path: String
    /// Seconds that the server asks to wait.
    var requestedDelay: Int?
}

/// Counts what went wrong, waits, and says when it is enough.
struct Patience {
    private let policy: RetryPolicy
    private let model: String
    private let hasToken: Bool
    private let connectionAttempts: Int
    private(set) var failures = 0

    /// - Parameters:
    ///   - settings: how often is enough.
    ///   - model: what is asked for, for messages.
    ///   - isFirstContact: whether nothing has come from the server yet, which then is more likely not to be there.
    init(_ settings: HubSettings, model: String, isFirstContact: Bool = false) {
        policy = settings.retries
        self.model = model
        connectionAttempts = isFirstContact ? policy.attemptsToConnect : policy.attempts
        hasToken = settings.token != nil
    }

    /// Something came: the count begins again.
    mutating func seeProgress() { failures = 0 }

    /// Waits before the next try.
    ///
    /// - Throws: what to tell people when there is none; `CancellationError`.
    mutating func wait(after interruption: Interruption) async throws {
        failures += 1
        var attempts = policy.attempts
        if case .connection = interruption.kind { attempts = connectionAttempts }
        let requested = interruption.requestedDelay.map { Duration.seconds($0) }
        if failures >= attempts || (requested.map { $0 > policy.longestRequestedDelay } ?? false) {
            throw verdict(interruption)
        }
        let doublings = min(failures - 1, 16)
        try await Task.sleep(
            for: max(requested ?? .zero, min(policy.firstDelay * (1 << doublings), policy.longestDelay)))
    }

    private func verdict(_ interruption: Interruption) -> HubError {
        switch interruption.kind {
        case .connection(let reason):
            .unreachable(model: model, host: interruption.host, attempts: failures, reason: reason)
        case .status(429):
            .rateLimited(host: interruption.host, seconds: interruption.requestedDelay, hasToken: hasToken)
        case .status(let status): .refused(host: interruption.host, path: interruption.path, status: status)
        }
    }
}
