internal import Foundation
internal import NibbleImages
internal import Testing

@Suite struct BitmapTests {
    /// Values worked out by hand from the definition.
    @Test func signalToNoiseRatioIsTheDefinitions() throws {
        let black = Bitmap(width: 2, height: 1, pixels: [0, 0, 0, 0, 0, 0])
        let ones = Bitmap(width: 2, height: 1, pixels: [1, 1, 1, 1, 1, 1])
        let white = Bitmap(width: 2, height: 1, pixels: [255, 255, 255, 255, 255, 255])
        let oneByte = Bitmap(width: 2, height: 1, pixels: [0, 0, 0, 0, 6, 0])
        // The last digits are log10's and double's: 1e-12 is some thousand units in the last place.
        #expect(abs(try #require(black.peakSignalToNoiseRatio(to: ones)) - 48.130803608679) < 1e-12)
        #expect(black.peakSignalToNoiseRatio(to: white) == 0)
        // A mean square of 36 / 6.
        #expect(abs(try #require(black.peakSignalToNoiseRatio(to: oneByte)) - 40.349291104843) < 1e-12)
        #expect(oneByte.peakSignalToNoiseRatio(to: black) == black.peakSignalToNoiseRatio(to: oneByte))
        #expect(white.peakSignalToNoiseRatio(to: white) == .infinity)
    }

    @Test func picturesOfDifferentSizesHaveNoRatio() {
        let wide = Bitmap(width: 2, height: 1, pixels: [UInt8](repeating: 0, count: 6))
        let high = Bitmap(width: 1, height: 2, pixels: [UInt8](repeating: 0, count: 6))
        #expect(wide.peakSignalToNoiseRatio(to: high) == nil)
    }
}
