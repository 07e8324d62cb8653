import Foundation
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// Decoding in stripes is decoding; it only takes less memory.
@Suite struct AutoencoderMemoryTests {
    struct Size: Sendable, CustomTestStringConvertible {
        let height, width, latentRows: Int
        var testDescription: String { "\(height)x\(width) by \(latentRows)" }
    }

    /// Stripes of one row, heights that are no multiple of the stripe, one pixel, more width than height, and a picture
    /// of 240 rows.
    static let sizes = [
        Size(height: 1, width: 1, latentRows: 1), Size(height: 3, width: 5, latentRows: 1),
        Size(height: 16, width: 16, latentRows: 4), Size(height: 13, width: 9, latentRows: 5),
        Size(height: 7, width: 20, latentRows: 2), Size(height: 30, width: 11, latentRows: 8),
    ]

    @Test(arguments: Goldens.fluxModels, sizes)
    func `stripes give the same picture`(_ folder: URL, _ size: Size) throws {
        let model = try AutoencoderTests.model(folder)
        let latent = AutoencoderTests.noise(
            channels: model.config.latentChannels, height: size.height, width: size.width)
        for precision in Precision.allCases {
            let compute = AutoencoderTests.compute(precision)
            let whole = model.decode(latent, on: compute) {}
            let tiled = model.decode(latent, memory: .tiled(latentRows: size.latentRows), on: compute) {}
            let difference = AutoencoderTests.byteDifference(
                AutoencoderKL.bytes(of: whole), AutoencoderKL.bytes(of: tiled))
            // Statistics are summed alike; only oneDNN may add up a band of another height in another order.
            #expect(difference <= (precision == .f32 ? 1 : 2))
            #expect(compute.isFinite(whole))
            if precision == .f32 { #expect(maximumDifference(tiled, whole.floats()) <= 2e-4) }
        }
    }

    @Test(arguments: Goldens.fluxModels, [Precision.f32, .bf16])
    func `the golden pictures come in stripes too`(_ folder: URL, _ precision: Precision) throws {
        let model = try AutoencoderTests.model(folder)
        for one in GoldenCase.all(of: folder) {
            let golden = try GoldenTensors(folder.appending(path: "golden/\(one.file)"))
            let latent = try AutoencoderTests.latent(golden)
            let compute = AutoencoderTests.compute(precision)
            let whole = AutoencoderKL.bytes(of: model.decode(latent, on: compute) {})
            let tiled = AutoencoderKL.bytes(of: model.decode(latent, memory: .tiled(latentRows: 2), on: compute) {})
            #expect(AutoencoderTests.byteDifference(whole, tiled) <= 2)
            guard precision == .f32 else { continue }
            let bytes = try golden.integers("image_u8").map(UInt8.init)
            #expect(AutoencoderTests.byteDifference(tiled, bytes) <= 1)
        }
    }

    /// The estimate holds what is taken, and is not far above it. The workspace takes pieces of at least 32 MiB, so
    /// that the picture must not be too small.
    @Test(arguments: Goldens.fluxModels, Precision.allCases)
    func `the estimate is kept`(_ folder: URL, _ precision: Precision) throws {
        let model = try AutoencoderTests.model(folder)
        let side = 64
        let latent = AutoencoderTests.noise(channels: model.config.latentChannels, height: side, width: side)
        var taken: [Int] = []
        for memory in [AutoencoderMemory.whole, .tiled(latentRows: 4)] {
            let compute = AutoencoderTests.compute(precision)
            let estimate = model.decodingMemory(latentHeight: side, latentWidth: side, memory: memory, on: compute)
            let picture = model.decode(latent, memory: memory, on: compute) {}
            let used = compute.workspace.reservedBytes + picture.elementCount * 4
            // Four requests (three slots and the work), each of which may begin a piece of its own.
            #expect(used <= estimate + 4 * 32 << 20)
            taken.append(estimate)
        }
        #expect(taken[1] < taken[0])
    }

    @Test(arguments: Goldens.fluxModels)
    func `the limit decides`(_ folder: URL) throws {
        let model = try AutoencoderTests.model(folder)
        let compute = AutoencoderTests.compute()
        func bytes(_ memory: AutoencoderMemory) -> Int {
            model.decodingMemory(latentHeight: 128, latentWidth: 128, memory: memory, on: compute)
        }
        let whole = bytes(.whole)
        #expect(bytes(.automatic(limit: whole)) == whole)
        #expect(bytes(.automatic(limit: whole - 1)) < whole)
        #expect(bytes(.automatic(limit: 0)) == bytes(.tiled(latentRows: 8)))
    }

    @Test func `giving up is passed on`() throws {
        struct Enough: Error {}
        for folder in Goldens.fluxModels {
            let model = try AutoencoderTests.model(folder)
            let compute = AutoencoderTests.compute()
            let latent = AutoencoderTests.noise(channels: model.config.latentChannels, height: 16, width: 16)
            for memory in [AutoencoderMemory.whole, .tiled(latentRows: 2)] {
                var calls = 0
                _ = model.decode(latent, memory: memory, on: compute) { calls += 1 }
                for last in [1, calls / 2, calls] {
                    var count = 0
                    #expect(throws: Enough.self) {
                        try model.decode(latent, memory: memory, on: compute) {
                            count += 1
                            if count == last { throw Enough() }
                        }
                    }
                    #expect(count == last)
                    // No scope is left open.
                    compute.workspace.release()
                }
            }
        }
    }
}
