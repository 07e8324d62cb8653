internal import Foundation
internal import NibbleCheckpoints
internal import NibbleImages
internal import NibbleTensors
internal import NibbleTestSupport
internal import Testing

/// The golden cases' pictures, which Pillow wrote, beside their pixels as tensors.
@Suite struct GoldenPictureTests {
    private static let pictures: [URL] = Goldens.fluxModels.flatMap { model in
        let folder = model.appending(path: "golden")
        return ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
            .filter { $0.hasPrefix("case_") && $0.hasSuffix(".png") }.map { folder.appending(path: $0) }
    }

    @Test(.enabled(if: !pictures.isEmpty, "no golden root with pictures; see NIBBLE_GOLDENS"), arguments: pictures)
    func goldenPicturesAreTheirPixels(_ picture: URL) throws {
        let tensors = picture.deletingPathExtension().appendingPathExtension("safetensors")
        let golden = try SafetensorsFile(tensors.path).tensor("image_u8")
        let bitmap = try PNG.read(picture.path).bitmap
        #expect(golden.shape == [1, bitmap.height, bitmap.width, 3])
        #expect(bitmap.pixels.elementsEqual(golden.bytes))
        let again = try PNG.decode(PNG.encode(bitmap))
        #expect(again.bitmap == bitmap)
    }
}
