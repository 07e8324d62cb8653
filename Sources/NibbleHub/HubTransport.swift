internal import Foundation
internal import Synchronization

#if canImport(FoundationNetworking)
    internal import FoundationNetworking
#endif

/// Sends requests and hands on what comes, piece by piece. Redirects are answers like any other: who follows one
/// decides what is sent there.
final class HubTransport: Sendable {
    /// Receives a piece of an answer's body; what it throws ends the request.
    typealias Receiver = @Sendable (HTTPURLResponse, Data) throws -> Void

    private let session: URLSession
    private let exchanges = Exchanges()

    /// - Parameters:
    ///   - idleTimeout: seconds without a byte after which a connection counts as lost.
    ///   - connections: to one host at the same time.
    init(idleTimeout: TimeInterval, connections: Int) {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = idleTimeout
        configuration.httpMaximumConnectionsPerHost = connections
        configuration.httpShouldSetCookies = false
        configuration.httpCookieStorage = nil
        configuration.urlCache = nil
        configuration.urlCredentialStorage = nil
        session = URLSession(configuration: configuration, delegate: exchanges, delegateQueue: nil)
    }

    deinit { session.invalidateAndCancel() }

    /// Sends a request.
    ///
    /// - Parameters:
    ///   - request: without a body.
    ///   - receive: called on one thread after the other, in order, before this returns.
    /// - Returns: the answer's head.
    /// - Throws: what `receive` threw, `CancellationError`, or a `URLError`.
    func send(_ request: URLRequest, receive: @escaping Receiver) async throws -> HTTPURLResponse {
        try Task.checkCancellation()
        let task = session.dataTask(with: request)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                exchanges.begin(task, Exchange(receive: receive, continuation: continuation))
                task.resume()
            }
        } onCancel: {
            task.cancel()
        }
    }
}

/// A request that waits for its answer.
private struct Exchange {
    let receive: HubTransport.Receiver
    let continuation: CheckedContinuation<HTTPURLResponse, any Error>
    /// What `receive` threw.
    var failure: (any Error)?
}

/// The session's delegate: finds the request that an event belongs to.
private final class Exchanges: NSObject, URLSessionDataDelegate {
    private let waiting = Mutex<[Int: Exchange]>([:])

    func begin(_ task: URLSessionTask, _ exchange: Exchange) {
        waiting.withLock { $0[task.taskIdentifier] = exchange }
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        let exchange = waiting.withLock { $0[dataTask.taskIdentifier] }
        guard let exchange, exchange.failure == nil, let response = dataTask.response as? HTTPURLResponse else {
            return
        }
        do {
            try exchange.receive(response, data)
        } catch {
            waiting.withLock { $0[dataTask.taskIdentifier]?.failure = error }
            dataTask.cancel()
        }
    }

    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest request: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {
        completionHandler(nil)
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        guard let exchange = waiting.withLock({ $0.removeValue(forKey: task.taskIdentifier) }) else { return }
        if let failure = exchange.failure {
            exchange.continuation.resume(throwing: failure)
        } else if let error {
            let isCancelled = (error as? URLError)?.code == .cancelled
            exchange.continuation.resume(throwing: isCancelled ? CancellationError() : error)
        } else if let response = task.response as? HTTPURLResponse {
            exchange.continuation.resume(returning: response)
        } else {
            exchange.continuation.resume(throwing: URLError(.badServerResponse))
        }
    }
}
