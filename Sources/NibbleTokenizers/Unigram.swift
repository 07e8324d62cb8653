/// The unigram language model (Kudo 2018): of all ways to cut a word into tokens, the one with the largest sum of
/// log probabilities.
struct Unigram: SubwordModel {
    /// What an unknown character scores below the least likely token (sentencepiece's `kUnkPenalty`).
    private static let unknownPenalty = 10.0

    private let vocabulary: ByteTrie
    private let scores: [Double]
    private let unknownScore: Double
    private let unknownID: Int32
    /// The token of each byte, for text that is in no token; nil where the model does not fall back to bytes.
    private let byteTokens: [Int32]?

    var count: Int { scores.count }
    var maximumID: Int32 { Int32(clamping: scores.count - 1) }

    /// - Parameters:
    ///   - pieces: tokens and their log probabilities; a token's id is its place.
    ///   - unknownID: the id of what is in no token.
    ///   - fallsBackToBytes: whether unknown text becomes the tokens of its bytes.
    /// - Throws: ``ContentProblem`` if there is no such id, or a score is not a number.
    init(pieces: [(text: String, score: Double)], unknownID: Int?, fallsBackToBytes: Bool) throws {
        guard !pieces.isEmpty else { throw ContentProblem.malformed("the vocabulary is empty") }
        guard let unknownID, pieces.indices.contains(unknownID), pieces.count < Int32.max else {
            throw ContentProblem.malformed(
                "the id of the unknown token, \(unknownID.map(String.init) ?? "none"), is not one of \(pieces.count)")
        }
        if let bad = pieces.first(where: { !$0.score.isFinite }) {
            throw ContentProblem.malformed("token '\(bad.text)' scores \(bad.score)")
        }
        let trie = try ByteTrie(pieces.enumerated().map { ($0.element.text, Int32($0.offset)) })
        vocabulary = trie
        scores = pieces.map(\.score)
        unknownScore = (scores.min() ?? 0) - Self.unknownPenalty
        self.unknownID = Int32(unknownID)
        let bytes = (UInt8.min...UInt8.max).map { trie.value(of: Self.byteToken($0).utf8) ?? -1 }
        byteTokens = fallsBackToBytes ? bytes : nil
    }

    func id(of token: some Sequence<UInt8>) -> Int32? { vocabulary.value(of: token) }

    /// The token that stands for a byte: `<0x0A>`.
    private static func byteToken(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16, uppercase: true)
        return "<0x\(digits.count < 2 ? "0" : "")\(digits)>"
    }

    /// The last token of the best way from the word's beginning to a place.
    private struct Step {
        var score = 0.0
        var start: Int32 = -1
        var id: Int32 = 0

        /// Takes another way if it is better, or the first one.
        mutating func offer(_ score: Double, from start: Int, _ id: Int32) {
            guard self.start < 0 || score > self.score else { return }
            self = Step(score: score, start: Int32(clamping: start), id: id)
        }
    }

    func encode(_ word: ArraySlice<UInt8>, into ids: inout [Int32]) {
        let steps = bestSteps(word)
        var pieces: [(range: Range<Int>, id: Int32)] = []
        var end = word.count
        while end > 0 {
            let step = steps[end]
            let start = Int(step.start)
            // Neighbors that are unknown become one piece.
            if step.id == unknownID, let last = pieces.last, last.id == unknownID {
                pieces[pieces.count - 1].range = start..<last.range.upperBound
            } else {
                pieces.append((start..<end, step.id))
            }
            end = start
        }
        for (range, id) in pieces.reversed() {
            if id == unknownID {
                let lower = word.startIndex + range.lowerBound
                encodeUnknown(word[lower..<(lower + range.count)], into: &ids)
            } else {
                ids.append(id)
            }
        }
    }

    /// Viterbi's algorithm: for each place, the best last token; sums from the left, in double precision.
    private func bestSteps(_ word: ArraySlice<UInt8>) -> [Step] {
        var steps = [Step](repeating: Step(), count: word.count + 1)
        var start = word.startIndex
        while start < word.endIndex {
            let place = start - word.startIndex
            let scoreHere = steps[place].score
            let width = Self.scalarWidth(word[start])
            var hasCharacter = false
            var node = ByteTrie.root
            var end = start
            while end < word.endIndex, let next = vocabulary.child(of: node, along: word[end]) {
                node = next
                end += 1
                guard let id = vocabulary.value(at: node) else { continue }
                steps[end - word.startIndex].offer(scoreHere + scores[Int(id)], from: place, id)
                if end - start == width { hasCharacter = true }
            }
            if !hasCharacter { steps[place + width].offer(scoreHere + unknownScore, from: place, unknownID) }
            start += width
        }
        return steps
    }

    /// Text that the best way calls unknown can still be a token once its parts are joined.
    private func encodeUnknown(_ text: ArraySlice<UInt8>, into ids: inout [Int32]) {
        if let id = vocabulary.value(of: text) {
            ids.append(id)
        } else if let byteTokens, text.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
            for byte in text { ids.append(byteTokens[Int(byte)]) }
        } else {
            ids.append(unknownID)
        }
    }

    /// The number of bytes of the scalar that begins with a byte.
    private static func scalarWidth(_ byte: UInt8) -> Int {
        switch byte {
        case 0..<0x80: 1
        case 0x80..<0xE0: 2
        case 0xE0..<0xF0: 3
        default: 4
        }
    }
}
