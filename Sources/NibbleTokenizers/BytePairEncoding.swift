/// Byte-level byte-pair encoding (Sennrich et al. 2016; the bytes as in GPT-2): a word begins as its bytes, and the
/// neighbors that rank first among the merges become one token, until no merge applies.
struct BytePairEncoding: SubwordModel {
    /// What two neighbors become.
    private struct Merge {
        let rank: Int32
        let result: Int32
    }

    private let vocabulary: ByteTrie
    let count: Int
    let maximumID: Int32
    /// The token of each byte inside a word, and at its end; -1 where the vocabulary has none.
    private let innerTokens: [Int32]
    private let finalTokens: [Int32]
    /// Stands for bytes that have no token; where it is nil they are left out.
    private let unknownID: Int32?
    private let fusesUnknown: Bool
    private var merges: [UInt64: Merge] = [:]
    private var results: [Int32] = []

    /// - Parameters:
    ///   - vocabulary: tokens, with bytes written as characters, and their ids.
    ///   - merges: pairs of tokens, first rank first. A pair that comes twice has its last rank.
    ///   - endOfWordSuffix: what the vocabulary writes behind a word's last byte.
    ///   - unknownToken: stands for bytes that have no token.
    ///   - fusesUnknown: whether unknown bytes side by side are one token.
    /// - Throws: ``ContentProblem`` if vocabulary and merges do not fit.
    init(
        vocabulary: [String: Int32], merges: [(left: ArraySlice<UInt8>, right: ArraySlice<UInt8>)],
        endOfWordSuffix: String, unknownToken: String?, fusesUnknown: Bool
    ) throws {
        guard !vocabulary.isEmpty else { throw ContentProblem.malformed("the vocabulary is empty") }
        if let bad = vocabulary.first(where: { $0.value < 0 || $0.value == .max }) {
            throw ContentProblem.malformed("token '\(bad.key)' has the id \(bad.value)")
        }
        let trie = try ByteTrie(vocabulary)
        self.vocabulary = trie
        count = vocabulary.count
        maximumID = vocabulary.values.max() ?? -1
        innerTokens = ByteLevelAlphabet.characters.map { trie.value(of: $0.utf8) ?? -1 }
        finalTokens = ByteLevelAlphabet.characters.map { trie.value(of: ($0 + endOfWordSuffix).utf8) ?? -1 }
        self.fusesUnknown = fusesUnknown
        unknownID = unknownToken.flatMap { trie.value(of: $0.utf8) }
        if let unknownToken, unknownID == nil, innerTokens.contains(-1) || finalTokens.contains(-1) {
            throw ContentProblem.missingToken(unknownToken, role: "unknown")
        }
        try readMerges(merges)
    }

    func id(of token: some Sequence<UInt8>) -> Int32? { vocabulary.value(of: token) }

    private mutating func readMerges(_ pairs: [(left: ArraySlice<UInt8>, right: ArraySlice<UInt8>)]) throws {
        merges.reserveCapacity(pairs.count)
        results.reserveCapacity(pairs.count)
        for (left, right) in pairs {
            guard let leftNode = vocabulary.node(along: left), let leftID = vocabulary.value(at: leftNode) else {
                throw Self.unknownMerge(left, left, right)
            }
            guard let rightID = vocabulary.value(of: right) else { throw Self.unknownMerge(right, left, right) }
            guard let node = vocabulary.node(from: leftNode, along: right), let result = vocabulary.value(at: node)
            else { throw Self.unknownMerge(left + right, left, right) }
            merges[Self.key(leftID, rightID)] = Merge(rank: Int32(results.count), result: result)
            results.append(result)
        }
    }

    private static func unknownMerge(
        _ token: ArraySlice<UInt8>, _ left: ArraySlice<UInt8>, _ right: ArraySlice<UInt8>
    ) -> ContentProblem {
        let names = [token, left, right].map { String(decoding: $0, as: UTF8.self) }
        return .malformed("the merge '\(names[1]) \(names[2])' needs '\(names[0])', which is not in the vocabulary")
    }

    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    func encode(_ word: ArraySlice<UInt8>, into ids: inout [Int32]) {
        var symbols = symbols(of: word)
        if symbols.count > 1 { merge(&symbols) }
        for symbol in symbols where !symbol.isMerged { ids.append(symbol.id) }
    }

    /// A token of the word in a list that is linked by places.
    private struct Symbol {
        var id: Int32
        var previous: Int32
        var next: Int32
        /// Whether it has become part of the symbol before it.
        var isMerged = false
    }

    private func symbols(of word: ArraySlice<UInt8>) -> [Symbol] {
        var symbols: [Symbol] = []
        symbols.reserveCapacity(word.count)
        var followsUnknown = false
        for (index, byte) in zip(word.indices, word) {
            let known = index == word.endIndex - 1 ? finalTokens[Int(byte)] : innerTokens[Int(byte)]
            let isUnknown = known < 0
            defer { followsUnknown = isUnknown }
            guard let id = isUnknown ? unknownID : known, !(isUnknown && followsUnknown && fusesUnknown) else {
                continue
            }
            let place = Int32(symbols.count)
            symbols.append(Symbol(id: id, previous: place - 1, next: place + 1))
        }
        if !symbols.isEmpty { symbols[symbols.count - 1].next = -1 }
        return symbols
    }

    /// Merges by rank, then from the left, with a heap of all pairs that can be merged: n log n for a word of n bytes.
    private func merge(_ symbols: inout [Symbol]) {
        var queue = MinimumHeap()
        for place in symbols.indices.dropLast() { enqueue(place, symbols, in: &queue) }
        while let entry = queue.popMinimum() {
            let place = Int(entry & 0xFFFF_FFFF)
            let result = results[Int(entry >> 32)]
            guard !symbols[place].isMerged, symbols[place].next >= 0 else { continue }
            let next = Int(symbols[place].next)
            // The entry may be of a pair that is gone. What counts is that the place still merges to the same token.
            guard merges[Self.key(symbols[place].id, symbols[next].id)]?.result == result else { continue }
            symbols[place].id = result
            symbols[place].next = symbols[next].next
            symbols[next].isMerged = true
            if symbols[place].next >= 0 {
                symbols[Int(symbols[place].next)].previous = Int32(place)
                enqueue(place, symbols, in: &queue)
            }
            if symbols[place].previous >= 0 { enqueue(Int(symbols[place].previous), symbols, in: &queue) }
        }
    }

    /// Puts the pair that begins at a place into the queue, if it can be merged.
    private func enqueue(_ place: Int, _ symbols: [Symbol], in queue: inout MinimumHeap) {
        let pair = Self.key(symbols[place].id, symbols[Int(symbols[place].next)].id)
        guard let merge = merges[pair] else { return }
        queue.push(UInt64(UInt32(bitPattern: merge.rank)) << 32 | UInt64(place))
    }
}

/// GPT-2's way to write bytes as visible characters (`bytes_to_unicode`): printable Latin-1 characters stand for
/// themselves, the other 68 bytes are written as U+0100 and up.
enum ByteLevelAlphabet {
    /// The character of each byte.
    static let characters: [String] = {
        var next: UInt32 = 0x100
        return (UInt8.min...UInt8.max).map { byte in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return String(Unicode.Scalar(byte))
            default:
                defer { next += 1 }
                return Unicode.Scalar(next).map { String($0) } ?? ""
            }
        }
    }()
}
