/// Finds keys, strings of bytes, by walking from byte to byte.
///
/// The children of a node lie side by side and sorted, so the trie is four flat arrays and building it is one pass over
/// the sorted keys, level by level.
struct ByteTrie: Sendable {
    /// The node that every walk begins at.
    static let root: Int32 = 0

    /// Longer keys are refused: they would let a file make every step over a text as long as the key.
    /// The longest token of CLIP's vocabulary has 96 bytes, of T5's 48.
    static let maximumKeyLength = 1024

    private var firstChild: [Int32] = [0]
    private var childCount: [UInt16] = [0]
    private var label: [UInt8] = [0]
    private var value: [Int32] = [-1]

    /// - Parameter entries: keys and values of 0 or more. If a key is there twice, the last one counts.
    /// - Throws: ``ContentProblem`` if a key is too long.
    init(_ entries: some Collection<(key: String, value: Int32)>) throws {
        var bytes: [UInt8] = []
        var keys: [Key] = []
        keys.reserveCapacity(entries.count)
        for (key, value) in entries {
            let start = bytes.count
            bytes.append(contentsOf: key.utf8)
            guard bytes.count - start <= Self.maximumKeyLength else {
                throw ContentProblem.malformed(
                    "token '\(key.prefix(20))…' is longer than \(Self.maximumKeyLength) bytes")
            }
            keys.append(Key(start: start, end: bytes.count, value: value))
        }
        keys.sort { left, right in
            let difference = Self.compare(left, right, in: bytes)
            return difference == 0 ? left.start < right.start : difference < 0
        }
        build(from: keys, in: bytes)
    }

    /// The child of a node along a byte, or nil.
    @inline(__always)
    func child(of node: Int32, along byte: UInt8) -> Int32? {
        var lower = Int(firstChild[Int(node)])
        var upper = lower + Int(childCount[Int(node)])
        while lower < upper {
            let middle = (lower + upper) / 2
            if label[middle] < byte { lower = middle + 1 } else { upper = middle }
        }
        let isChild = lower < Int(firstChild[Int(node)]) + Int(childCount[Int(node)]) && label[lower] == byte
        return isChild ? Int32(lower) : nil
    }

    /// The value of the key that ends at a node, or nil.
    @inline(__always)
    func value(at node: Int32) -> Int32? {
        let value = value[Int(node)]
        return value < 0 ? nil : value
    }

    /// The node reached by all of `bytes` from `node`, or nil.
    func node(from node: Int32 = ByteTrie.root, along bytes: some Sequence<UInt8>) -> Int32? {
        var node = node
        for byte in bytes {
            guard let next = child(of: node, along: byte) else { return nil }
            node = next
        }
        return node
    }

    /// The value of a key, or nil.
    func value(of key: some Sequence<UInt8>) -> Int32? {
        node(along: key).flatMap { value(at: $0) }
    }

    /// The longest key that `bytes` begins with: its length and value.
    func longestPrefix(of bytes: ArraySlice<UInt8>) -> (length: Int, value: Int32)? {
        var longest: (length: Int, value: Int32)?
        var node = Self.root
        var length = 0
        for byte in bytes {
            guard let next = child(of: node, along: byte) else { break }
            node = next
            length += 1
            if let value = value(at: node) { longest = (length, value) }
        }
        return longest
    }

    private struct Key {
        let start: Int
        let end: Int
        let value: Int32
    }

    private static func compare(_ left: Key, _ right: Key, in bytes: [UInt8]) -> Int {
        let shared = min(left.end - left.start, right.end - right.start)
        for offset in 0..<shared {
            let difference = Int(bytes[left.start + offset]) - Int(bytes[right.start + offset])
            if difference != 0 { return difference }
        }
        return (left.end - left.start) - (right.end - right.start)
    }

    /// Node `n` holds the keys of `ranges[n]`, which share their first `depth` bytes.
    private mutating func build(from keys: [Key], in bytes: [UInt8]) {
        var ranges = [0..<keys.count]
        var depth = 0
        var level = 0..<1
        while !level.isEmpty {
            for node in level {
                var next = ranges[node].lowerBound
                let end = ranges[node].upperBound
                while next < end, keys[next].end - keys[next].start == depth {
                    value[node] = keys[next].value
                    next += 1
                }
                firstChild[node] = Int32(ranges.count)
                while next < end {
                    let byte = bytes[keys[next].start + depth]
                    let start = next
                    while next < end, bytes[keys[next].start + depth] == byte { next += 1 }
                    ranges.append(start..<next)
                    firstChild.append(0)
                    childCount.append(0)
                    label.append(byte)
                    value.append(-1)
                    childCount[node] += 1
                }
            }
            level = level.upperBound..<ranges.count
            depth += 1
        }
    }
}
