internal import Crypto
internal import Foundation

/// What the Hub calls a file's content by, and the name of its blob in the cache: the SHA-256 of a file in large file
/// storage, the hash of git's blob object of any other.
struct ContentID: Sendable, Hashable, CustomStringConvertible {
    enum Kind: Sendable { case sha256, gitBlob, opaque }

    /// As it is written: hexadecimal digits, or what a mirror made up.
    let description: String

    /// `nil` for what cannot be a file's name.
    ///
    /// - Parameter text: an entity tag's inside, or a hash from a listing.
    init?(_ text: String) {
        guard (1...128).contains(text.utf8.count), text.utf8.first != UInt8(ascii: "."),
            text.utf8.allSatisfy({ $0.isLetterOrDigit || "-_.+".utf8.contains($0) })
        else { return nil }
        description = text
    }

    /// - Parameter etag: the header's value: `"…"` or `W/"…"` (RFC 9110, section 8.8.3).
    init?(etag: String) {
        let strong = etag.hasPrefix("W/") ? etag.dropFirst(2) : etag[...]
        self.init(strong.trimmingCharacters(in: CharacterSet(charactersIn: "\"")))
    }

    var kind: Kind {
        guard description.utf8.allSatisfy(\.isLowercaseHexadecimal) else { return .opaque }
        return switch description.utf8.count {
        case 64: .sha256
        case 40: .gitBlob
        default: .opaque
        }
    }
}

/// The hash of a content that comes in pieces, of the kind that its name is.
struct ContentHash {
    private enum State {
        case sha256(SHA256)
        case sha1(Insecure.SHA1)
        case none
    }

    private var state: State

    /// - Parameters:
    ///   - kind: of hash.
    ///   - size: of the whole content; git hashes it in front of the bytes (Pro Git, section 10.2: `blob`, a space, the
    ///     length, a zero byte).
    init(_ kind: ContentID.Kind, size: Int) {
        switch kind {
        case .sha256: state = .sha256(SHA256())
        case .gitBlob:
            var hash = Insecure.SHA1()
            hash.update(data: Data("blob \(size)\0".utf8))
            state = .sha1(hash)
        case .opaque: state = .none
        }
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        switch state {
        case .sha256(var hash):
            hash.update(bufferPointer: bytes)
            state = .sha256(hash)
        case .sha1(var hash):
            hash.update(bufferPointer: bytes)
            state = .sha1(hash)
        case .none: break
        }
    }

    /// Hexadecimal digits; `nil` where the name is no hash and nothing can be compared.
    func digits() -> String? {
        func text(_ bytes: some Sequence<UInt8>) -> String { bytes.map { String(format: "%02x", $0) }.joined() }
        return switch state {
        case .sha256(let hash): text(hash.finalize())
        case .sha1(let hash): text(hash.finalize())
        case .none: nil
        }
    }
}
