import Foundation

/// Memory that ends at a page which nobody may touch, so that a read or write past its end stops the test, with a
/// pattern before it that `isIntact` looks at.
final class GuardedMemory {
    let start: UnsafeMutableRawPointer
    let byteCount: Int
    private let mapping: UnsafeMutableRawPointer
    private let mappingBytes: Int
    private static let pattern: UInt8 = 0xff  // a NaN in every float type, should it be read

    /// Aligned memory may have some bytes between its end and the page; they hold the pattern too.
    init(byteCount: Int, alignment: Int = 1) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let rounded = (byteCount + alignment - 1) / alignment * alignment
        let body = (rounded + 64 + page - 1) / page * page
        mappingBytes = body + page
        let address = mmap(nil, mappingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
        guard let address, address != MAP_FAILED, mprotect(address + body, page, PROT_NONE) == 0 else {
            preconditionFailure("no memory for a test")
        }
        mapping = address
        self.byteCount = byteCount
        start = address + body - rounded
        memset(mapping, Int32(Self.pattern), body)
    }

    deinit { munmap(mapping, mappingBytes) }

    /// Whether the bytes before the memory, and those between its end and the page, still hold the pattern.
    var isIntact: Bool {
        let body = mappingBytes - Int(sysconf(Int32(_SC_PAGESIZE)))
        let end = UnsafeRawPointer(start) + byteCount
        let after = UnsafeRawBufferPointer(start: end, count: UnsafeRawPointer(mapping) + body - end)
        let before = UnsafeRawBufferPointer(start: UnsafeRawPointer(start) - 64, count: 64)
        return before.allSatisfy { $0 == Self.pattern } && after.allSatisfy { $0 == Self.pattern }
    }
}
