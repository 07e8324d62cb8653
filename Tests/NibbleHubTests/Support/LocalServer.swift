import Foundation
import Synchronization

/// A little HTTP/1.1 server on 127.0.0.1: one request a connection, answers from a closure, and connections that break
/// off where the answer says so.
final class LocalServer: Sendable {
    struct Request: Sendable {
        let method: String
        /// Without the query, percent-encoding left as it came.
        let path: String
        let query: String
        /// Names in lower case.
        let headers: [String: String]

        /// The first and last byte of `Range: bytes=a-b`.
        var range: ClosedRange<Int>? {
            guard let match = headers["range"]?.wholeMatch(of: #/bytes=(\d+)-(\d+)/#), let first = Int(match.1),
                let last = Int(match.2), first <= last
            else { return nil }
            return first...last
        }
    }

    struct Reply: Sendable {
        var status = 200
        var headers: [String: String] = [:]
        var body: [UInt8] = []
        /// Bytes of the body that are sent before the connection breaks off; `nil` for all.
        var cut: Int?
        /// Seconds of silence after those bytes, before the connection ends.
        var silence: TimeInterval = 0

        static func status(_ status: Int, _ headers: [String: String] = [:]) -> Reply {
            Reply(status: status, headers: headers)
        }
    }

    typealias Handler = @Sendable (Request) -> Reply

    let port: UInt16
    private let descriptor: Int32
    private let log = Mutex<[Request]>([])
    private let handler: Handler

    init(_ handler: @escaping Handler) throws {
        self.handler = handler
        #if canImport(Glibc)
            let kind = Int32(SOCK_STREAM.rawValue)
        #else
            let kind = SOCK_STREAM
        #endif
        descriptor = socket(AF_INET, kind, 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let (isBound, isNamed) = withUnsafeMutablePointer(to: &address) { [descriptor] pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                (bind(descriptor, $0, length) == 0, getsockname(descriptor, $0, &length) == 0)
            }
        }
        guard isBound, isNamed, listen(descriptor, 64) == 0 else { throw POSIXError(.EADDRNOTAVAIL) }
        port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread { [weak self, descriptor] in
            while true {
                let connection = accept(descriptor, nil, nil)
                guard connection >= 0, let self else { break }
                Thread.detachNewThread { self.serve(connection) }
            }
            close(descriptor)
        }
    }

    deinit { stop() }

    /// Wakes the waiting thread, which ends then.
    func stop() { _ = shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// What was asked so far.
    var requests: [Request] { log.withLock { $0 } }

    private func serve(_ connection: Int32) {
        defer { close(connection) }
        // A client that says nothing must not keep the thread.
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        guard let request = Self.read(connection) else { return }
        log.withLock { $0.append(request) }
        let reply = handler(request)
        var head = "HTTP/1.1 \(reply.status) Status\r\nConnection: close\r\n"
        let headers = reply.headers.merging(["Content-Length": "\(reply.body.count)"]) { given, _ in given }
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        var bytes = Array((head + "\r\n").utf8)
        if request.method != "HEAD" { bytes += reply.body.prefix(reply.cut ?? reply.body.count) }
        Self.write(bytes, to: connection)
        if reply.silence > 0 { Thread.sleep(forTimeInterval: reply.silence) }
        shutdown(connection, Int32(SHUT_WR))
    }

    private static func read(_ connection: Int32) -> Request? {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while !bytes.suffix(4).elementsEqual([13, 10, 13, 10]) {
            let count = recv(connection, &piece, piece.count, 0)
            guard count > 0, bytes.count < 1 << 16 else { return nil }
            bytes += piece[..<count]
        }
        let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ")
        guard words.count == 3 else { return nil }
        let address = words[1].split(separator: "?", maxSplits: 1)
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        return Request(
            method: String(words[0]), path: String(address[0]), query: address.count > 1 ? String(address[1]) : "",
            headers: headers)
    }

    private static func write(_ bytes: [UInt8], to connection: Int32) {
        #if canImport(Glibc)
            let flags = Int32(MSG_NOSIGNAL)
        #else
            let flags: Int32 = 0
        #endif
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { send(connection, $0.baseAddress, $0.count, flags) }
            guard count > 0 else { return }
            sent += count
        }
    }
}
