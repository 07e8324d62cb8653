import Foundation
import Testing

@testable import NibbleHub

/// Names of contents, beside what `sha256sum` and `git hash-object` print.
@Suite struct ContentTests {
    private func digits(_ kind: ContentID.Kind, _ text: String) -> String? {
        let bytes = Array(text.utf8)
        var hash = ContentHash(kind, size: bytes.count)
        // In two pieces, as they come.
        for piece in [bytes.prefix(3), bytes.dropFirst(3)] { piece.withUnsafeBytes { hash.update($0) } }
        return hash.digits()
    }

    @Test func hashesAreThoseOfOtherPrograms() {
        #expect(
            digits(.sha256, "hello\n") == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
        #expect(digits(.gitBlob, "hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a")
        #expect(digits(.gitBlob, "") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
        #expect(digits(.opaque, "hello\n") == nil)
    }

    @Test func entityTagsAreRead() {
        let hash = "ce013625030ba8dba906f756967f9e9ca394464a"
        #expect(ContentID(etag: "\"\(hash)\"")?.description == hash)
        #expect(ContentID(etag: "W/\"\(hash)\"")?.kind == .gitBlob)
        #expect(ContentID(etag: "\"abc-1\"")?.kind == .opaque)
        for bad in ["", "\"\"", "\"../x\"", "\"a/b\"", "\".x\"", String(repeating: "a", count: 129)] {
            #expect(ContentID(etag: bad) == nil)
        }
    }
}
