internal import Foundation
internal import NibbleImages
internal import Testing

@Suite struct DecodeTests {
    @Test(arguments: Fixtures.kinds)
    func everyKindOfPictureBecomesRGB(_ fixture: PictureFixture) throws {
        let bitmap = try PNG.decode(fixture.png).bitmap
        #expect(bitmap.width == fixture.width)
        #expect(bitmap.height == fixture.height)
        let worst = zip(bitmap.pixels, fixture.rgb).map { abs(Int($0) - Int($1)) }.max()
        #expect(bitmap.pixels.count == fixture.rgb.count)
        #expect(try #require(worst) <= fixture.tolerance)
    }

    @Test(arguments: Fixtures.texts)
    func textsOfEveryKindAreRead(_ fixture: TextFixture) throws {
        let contents = try PNG.decode(fixture.png)
        #expect(contents.bitmap.pixels == Array(fixture.rgb))
        #expect(contents.texts.map(\.key) == fixture.texts.map(\.key))
        #expect(contents.texts.map(\.value) == fixture.texts.map(\.value))
        #expect(contents.text("parameters") == fixture.texts.first { $0.key == "parameters" }?.value)
        #expect(contents.text("no such key") == nil)
    }

    @Test(arguments: Fixtures.hostile)
    func wrongFilesAreRefused(_ fixture: HostileFixture) {
        var found = "none"
        do throws(ImageError) {
            _ = try PNG.decode(fixture.png, name: "picture.png")
        } catch {
            found = error.kind
            #expect(error.description.contains("picture.png"))
        }
        #expect(found == fixture.error)
    }

    @Test(arguments: Fixtures.texts)
    func everyTruncationIsRefused(_ fixture: TextFixture) {
        for count in 0..<fixture.png.count {
            #expect(throws: ImageError.self, "the first \(count) bytes") { try PNG.decode(fixture.png.prefix(count)) }
        }
    }

    /// Every byte of the file but the chunks that are skipped is under a checksum or is one, so that no flip goes unseen.
    @Test(arguments: Fixtures.texts)
    func everyFlippedBitIsRefused(_ fixture: TextFixture) {
        for bit in 0..<fixture.png.count * 8 {
            var damaged = fixture.png
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: ImageError.self, "bit \(bit % 8) of byte \(bit / 8)") { try PNG.decode(damaged) }
        }
    }

    @Test func whatIsNoPNGIsCalledSo() {
        for bytes in [Data(), Data("P6 2 2 255".utf8), Data([0xFF, 0xD8, 0xFF, 0xE0]), Data(count: 4096)] {
            #expect(throws: ImageError.notPNG(path: "picture.jpg")) { try PNG.decode(bytes, name: "picture.jpg") }
        }
    }

    @Test func aSliceOfDataIsReadFromItsOwnStart() throws {
        let bitmap = pattern(width: 5, height: 4)
        let padded = Data(count: 11) + (try PNG.encode(bitmap))
        #expect(try PNG.decode(padded.dropFirst(11)).bitmap == bitmap)
    }
}
