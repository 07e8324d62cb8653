/// The part of a tokenizer that knows the vocabulary: makes ids of words.
protocol SubwordModel: Sendable {
    /// The number of tokens.
    var count: Int { get }

    /// The largest id.
    var maximumID: Int32 { get }

    /// The id of a token, or nil.
    func id(of token: some Sequence<UInt8>) -> Int32?

    /// Appends the ids of a word, which is not empty.
    func encode(_ word: ArraySlice<UInt8>, into ids: inout [Int32])
}
