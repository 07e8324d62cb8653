internal import Foundation
internal import NibbleImages
internal import Testing

@Suite struct EncodeTests {
    @Test(arguments: [(1, 1), (1, 9), (9, 1), (64, 48), (257, 3)])
    func picturesComeBack(width: Int, height: Int) throws {
        let bitmap = pattern(width: width, height: height)
        #expect(try PNG.decode(PNG.encode(bitmap)) == PNG.decode(PNG.encode(bitmap, texts: [])))
        #expect(try PNG.decode(PNG.encode(bitmap)).bitmap == bitmap)
    }

    /// Chunk layouts are the specification's, section 11.3.4: the type follows the first length field after the header.
    @Test(arguments: [
        ("tEXt", "a red apple, Steps: 8"), ("iTXt", "красное яблоко 🍎"),
        ("zTXt", String(repeating: "apple ", count: 400)),
        ("iTXt", String(repeating: "яблоко ", count: 400)), ("tEXt", "café\nÿ"), ("tEXt", ""),
    ])
    func textsGoIntoTheChunkThatFits(type: String, value: String) throws {
        let texts = [PNG.Text(key: "parameters", value: value)]
        let file = try PNG.encode(pattern(width: 3, height: 2), texts: texts)
        let afterHeader = 8 + 12 + 13
        #expect(String(decoding: file[afterHeader + 4..<afterHeader + 8], as: UTF8.self) == type)
        #expect(try PNG.decode(file).texts == texts)
    }

    @Test func longTextsAreCompressedAndComeBack() throws {
        let texts = [
            PNG.Text(key: "parameters", value: String(repeating: "a red apple on a table, ", count: 4500)),
            PNG.Text(key: "nibble", value: String(repeating: "{\"prompt\": \"🍎 и груша\"} ", count: 3500)),
            PNG.Text(key: "parameters", value: "a second one of the same key"),
        ]
        #expect(texts[0].value.utf8.count > 100_000 && texts[1].value.utf8.count > 100_000)
        let file = try PNG.encode(pattern(width: 4, height: 4), texts: texts)
        #expect(file.count < 10_000)
        #expect(try PNG.decode(file).texts == texts)
    }

    @Test func theSamePictureGivesTheSameBytes() throws {
        let bitmap = pattern(width: 100, height: 80)
        let texts = [PNG.Text(key: "nibble", value: String(repeating: "{\"seed\": 7}", count: 200))]
        let first = try PNG.encode(bitmap, texts: texts)
        for _ in 0..<3 { #expect(try PNG.encode(bitmap, texts: texts) == first) }
    }

    @Test(arguments: [
        "", " key", "key ", "two  spaces", "tab\tkey", "null\0key", "ключ", "soft\u{A0}space",
        String(repeating: "k", count: 80),
    ])
    func keysThatPNGForbidsAreRefused(_ key: String) {
        let error = #expect(throws: ImageError.self) {
            try PNG.encode(pattern(width: 1, height: 1), texts: [PNG.Text(key: key, value: "x")])
        }
        #expect(error?.kind == "unstorableText")
    }

    @Test func aZeroInATextIsRefused() {
        #expect(throws: ImageError.unstorableText(key: "k", reason: "it contains the character U+0000")) {
            try PNG.encode(pattern(width: 1, height: 1), texts: [PNG.Text(key: "k", value: "a\0b")])
        }
    }

    @Test func whatCouldNotBeReadAgainIsNotWritten() {
        let long = Bitmap(width: 65536, height: 1, pixels: [UInt8](repeating: 0, count: 65536 * 3))
        #expect(throws: ImageError.tooLarge(path: "wide.png", width: 65536, height: 1)) {
            try PNG.encode(long, name: "wide.png")
        }
    }
}
