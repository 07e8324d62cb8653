internal import Foundation

@testable internal import NibbleTokenizers

/// The first byte says which of a tokenizer's files the rest is. A tokenizer that can be made then encodes a text.
@_cdecl("LLVMFuzzerTestOneInput")
func readTokenizer(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let contents = Data(bytes: bytes + 1, count: count - 1)
    if let tokenizer = try? tokenizer(kind: bytes[0], contents) { _ = tokenizer.encode(text) }
    return 0
}

/// Letters, signs of several bytes, a special token and what normalizers change.
private let text = "A red  apple,\u{A0}ﬁne café 🍎 </s> <|endoftext|> 東京 ½"

private func tokenizer(kind: UInt8, _ contents: Data) throws -> (any Tokenizer)? {
    switch kind {
    case UInt8(ascii: "c"): return try CLIPTokenizer(tokenizerJSON: contents, configuration: TokenizerConfiguration())
    case UInt8(ascii: "t"): return try T5Tokenizer(tokenizerJSON: contents, configuration: TokenizerConfiguration())
    case UInt8(ascii: "s"): return try T5Tokenizer(sentencePiece: contents, configuration: TokenizerConfiguration())
    case UInt8(ascii: "x"):
        var piece = TextPiece(Array(text.utf8)[...], startsPrompt: true)
        try CharacterMap(contents).normalize(&piece)
    case UInt8(ascii: "m"): _ = try MergesFile.pairs(contents)
    case UInt8(ascii: "k"): _ = try TokenizerConfiguration(config: contents)
    case UInt8(ascii: "p"): _ = try TokenizerConfiguration(specialTokensMap: contents)
    default: break
    }
    return nil
}
