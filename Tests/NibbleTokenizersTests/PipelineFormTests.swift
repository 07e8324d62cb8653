import Foundation
import Testing

@testable import NibbleTokenizers

/// The form that the pipeline asks for: a length, and texts of any size.
@Suite struct PipelineFormTests {
    private let clip: CLIPTokenizer
    private let t5: T5Tokenizer

    init() throws {
        clip = try CLIPTokenizer(folder: Fixtures.emojiModel.appending(path: "tokenizer"))
        t5 = try T5Tokenizer(folder: Fixtures.emojiModel.appending(path: "tokenizer_2"))
    }

    private var both: [any Tokenizer] { [clip, t5] }

    @Test func lengthsComeFromTheSettings() {
        // The numbers of Models/flux-emoji's tokenizer_config.json files.
        #expect(clip.modelMaxLength == 77)
        #expect(t5.modelMaxLength == 32)
    }

    @Test func aShortTextIsPadded() {
        for tokenizer in both {
            let ids = tokenizer.encode("red apple")
            let padded = tokenizer.encode("red apple", length: ids.count + 5)
            #expect(padded == ids + [Int32](repeating: tokenizer.specialTokens.padding, count: 5))
        }
    }

    @Test func aLongTextKeepsItsEnd() {
        for tokenizer in both {
            let ids = tokenizer.encode("a green frog wearing a crown")
            let end = tokenizer.specialTokens.end
            #expect(end.count == 1)
            for length in end.count...ids.count {
                let cut = tokenizer.encode("a green frog wearing a crown", length: length)
                #expect(cut == Array(ids.prefix(length - 1) + end))
            }
            #expect(tokenizer.encode("a green frog", length: 0).isEmpty)
        }
    }

    @Test func anEmptyTextIsItsSpecialTokens() {
        for tokenizer in both {
            #expect(tokenizer.encode("") == tokenizer.specialTokens.start + tokenizer.specialTokens.end)
            #expect(tokenizer.encode(" \n\t ") == tokenizer.encode(""))
        }
    }

    /// Texts of 100 kB that would be slow where a loop is quadratic: the suite would take minutes.
    @Test(arguments: [
        "a photo of a cat. ", "a", "!", " ", "'s", "\u{5B87}\u{5B99}", "\u{301}", "<|endoftext|> ", "\u{1F469}\u{200D}",
    ])
    func aHugeText(_ part: String) {
        let text = String(repeating: part, count: 100_000 / part.utf8.count)
        for tokenizer in both {
            let ids = tokenizer.encode(text)
            #expect(ids.starts(with: tokenizer.specialTokens.start))
            #expect(ids.suffix(1) == tokenizer.specialTokens.end[...])
            #expect(ids.allSatisfy { $0 >= 0 && Int($0) < tokenizer.vocabularySize })
            #expect(tokenizer.encode(text, length: 512).count == 512)
        }
    }

    /// What a word's parts become does not depend on how many words there are.
    @Test func aHugeTextIsEqualToItsParts() {
        let sentence = clip.encode("red apple and green frog").dropFirst().dropLast()
        let whole = clip.encode(String(repeating: "red apple and green frog ", count: 4000)).dropFirst().dropLast()
        #expect(Array(whole) == Array(repeatElement(sentence, count: 4000).joined()))
    }
}
