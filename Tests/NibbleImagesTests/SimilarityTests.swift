internal import Foundation
internal import NibbleImages
internal import Testing

/// Structural similarity and signal-to-noise ratio against scikit-image 0.26.0:
/// `structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2,
/// data_range=255)` and `peak_signal_noise_ratio(a, b, data_range=255)`, on pictures that a formula makes.
@Suite struct SimilarityTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let width, height: Int
        let other: Other
        let ssim, psnr: Double
        var testDescription: String { "\(width) × \(height) \(other)" }
    }

    /// What the smooth picture is compared with.
    enum Other: Sendable {
        /// Itself with numbers from -amount to amount added.
        case noisy(Int)
        case inverted
        /// All bytes 128.
        case flat

        func picture(_ smooth: Bitmap) -> Bitmap {
            let pixels = smooth.pixels.enumerated().map { index, byte in
                switch self {
                case .noisy(let amount):
                    let noise = (index * 7919 + index / 5 * 104_729) % (2 * amount + 1) - amount
                    return UInt8(min(255, max(0, Int(byte) + noise)))
                case .inverted: return 255 - byte
                case .flat: return 128
                }
            }
            return Bitmap(width: smooth.width, height: smooth.height, pixels: pixels)
        }
    }

    static let cases = [
        Case(width: 11, height: 11, other: .noisy(2), ssim: 0.9923589167533523, psnr: 45.168625416617225),
        Case(width: 11, height: 11, other: .noisy(40), ssim: 0.3255869533733074, psnr: 21.088423687856064),
        Case(width: 11, height: 11, other: .inverted, ssim: -0.21153897715444672, psnr: 3.2958780424556355),
        Case(width: 11, height: 11, other: .flat, ssim: 0.2222478555897918, psnr: 9.268286714181219),
        Case(width: 32, height: 24, other: .noisy(2), ssim: 0.9944734550863604, psnr: 45.13182815602838),
        Case(width: 32, height: 24, other: .noisy(40), ssim: 0.40438444069005736, psnr: 20.900542727220532),
        Case(width: 32, height: 24, other: .inverted, ssim: -0.5507902829416685, psnr: 6.109759219441763),
        Case(width: 32, height: 24, other: .flat, ssim: 0.26318665513835465, psnr: 12.12112000443793),
        Case(width: 61, height: 47, other: .noisy(2), ssim: 0.9972259942917293, psnr: 45.148110159066974),
        Case(width: 61, height: 47, other: .noisy(40), ssim: 0.629633456315203, psnr: 21.04340214205333),
        Case(width: 61, height: 47, other: .inverted, ssim: -0.5689403030882015, psnr: 4.968790337732648),
        Case(width: 61, height: 47, other: .flat, ssim: 0.1335226878456481, psnr: 10.98886720920597),
    ]

    /// Byte of column x, row y, channel c: x(3 + c) + y(5 - c) + xy / 8, modulo 256.
    static func smooth(width: Int, height: Int) -> Bitmap {
        var pixels: [UInt8] = []
        for y in 0..<height {
            for x in 0..<width {
                for c in 0..<3 { pixels.append(UInt8((x * (3 + c) + y * (5 - c) + x * y / 8) % 256)) }
            }
        }
        return Bitmap(width: width, height: height, pixels: pixels)
    }

    @Test(arguments: cases)
    func `figures are scikit-image's`(_ one: Case) throws {
        let smooth = Self.smooth(width: one.width, height: one.height)
        let other = one.other.picture(smooth)
        // Both add the same numbers in double precision in another order: up to 255² · 2⁻⁵² a window in the variances,
        // 1e-11, over a stabilizer of 58.
        #expect(abs(try #require(smooth.structuralSimilarity(to: other)) - one.ssim) < 1e-11)
        #expect(abs(try #require(smooth.peakSignalToNoiseRatio(to: other)) - one.psnr) < 1e-11)
        #expect(smooth.structuralSimilarity(to: other) == other.structuralSimilarity(to: smooth))
    }

    @Test func `equal pictures are alike, and pictures without a window have no similarity`() {
        let smooth = Self.smooth(width: 40, height: 20)
        #expect(smooth.structuralSimilarity(to: smooth) == 1)
        #expect(smooth.structuralSimilarity(to: Self.smooth(width: 20, height: 40)) == nil)
        let small = Self.smooth(width: 40, height: 10)
        #expect(small.structuralSimilarity(to: small) == nil)
    }
}
