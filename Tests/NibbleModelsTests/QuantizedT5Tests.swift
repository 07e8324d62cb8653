import Foundation
import NibbleCheckpoints
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleModels

/// T5 with 4-bit layers: the same network on another kind of layer.
@Suite struct QuantizedT5Tests {
    private static let ids: [Int32] = (0..<24).map { ($0 * 7 + 3) % 40 }

    /// Writes a file and gives it to the body; the file goes away afterwards.
    private static func withCheckpoint(rank: Int, _ body: (any Int4Checkpoint) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "t5-\(UUID().uuidString).safetensors").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try SmallT5File(rank: rank).write(to: path)
        try body(Checkpoint.openInt4(path))
    }

    /// How far rounding the inputs of `layers` layers to 8 bits moves the result, at most. A code is off by half a step of
    /// 1/127 of its group's largest value, evenly spread: by 1/(254·√3) of it. The largest of 64 is at most 8 times their
    /// root of the mean square. Errors of layers are unrelated: they add up like their squares.
    static func inputRounding(layers: Int) -> Double { 8 / (254 * 3.0.squareRoot()) * Double(layers).squareRoot() }

    @Test(arguments: [0, 16])
    func `it computes what its dequantized weights do, but for the inputs' rounding`(_ rank: Int) throws {
        try Self.withCheckpoint(rank: rank) { checkpoint in
            let quantized = try T5Encoder(quantized: checkpoint)
            let plain = try T5Encoder(
                checkpoint.config(as: T5Config.self),
                weights: WeightReader(
                    DequantizedFluxCheckpoint(checkpoint, dtype: .float32, on: ThreadPool(threadCount: 1))))
            // Whatever a transformer's inputs are quantized to.
            var found: [[Float]] = []
            for bits in ActivationBits.allCases {
                found.append(
                    try quantized(Self.ids, on: Compute(precision: .f32, activationBits: bits)).floats())
            }
            #expect(found[0] == found[1])
            let expected = try plain(Self.ids, on: Compute(precision: .f32)).floats()
            let error = relativeError(found[0], expected)
            let bound = Self.inputRounding(layers: 6)
            #expect(error <= bound && error > 1e-4, "\(error), at most \(bound)")
            print("4-bit T5 of rank \(rank): \(error) from its weights in f32, at most \(bound)")
        }
    }

    @Test(arguments: [Precision.f32, .bf16])
    func `one thread and more, kept or streamed, give the same bytes`(_ precision: Precision) throws {
        try Self.withCheckpoint(rank: 16) { checkpoint in
            let encoder = try T5Encoder(quantized: checkpoint)
            // Large tensors are views of the file, which --memory can let go.
            #expect(encoder.weights.ownedByteCount == 0 && encoder.weights(of: 1).byteCount > 3 * 64 * 64 / 2)
            var runs: [[Float]] = []
            for (threads, residency) in [(1, Residency.keep), (2, .keep), (3, .stream)] {
                let compute = Compute(precision: precision, pool: ThreadPool(threadCount: threads))
                runs.append(try encoder(Self.ids, residency: residency, on: compute).floats())
            }
            #expect(runs[0] == runs[1] && runs[0] == runs[2])
        }
    }

    @Test func `Nunchaku's way of summing is the transformer's alone`() throws {
        try Self.withCheckpoint(rank: 0) { checkpoint in
            let encoder = try T5Encoder(quantized: checkpoint)
            let (usual, nunchaku) = (Compute(precision: .f32), Compute(precision: .f32, accumulation: .nunchaku))
            #expect(try encoder(Self.ids, on: usual).floats() == encoder(Self.ids, on: nunchaku).floats())
        }
    }

    @Test func `a text encoder is no transformer`() throws {
        try Self.withCheckpoint(rank: 0) { checkpoint in
            #expect {
                try FluxTransformer(FluxConfig(), quantized: checkpoint)
            } throws: { error in
                "\(error)".contains("this is a T5 encoder in 4 bits; expected a transformer")
            }
        }
    }

    @Test(.enabled(if: !GoldenInt4Model.all.isEmpty, "no svdq-* goldens beside the repository"))
    func `a transformer is no text encoder`() throws {
        let checkpoint = try NunchakuCheckpoint(try #require(GoldenInt4Model.all.first).file)
        #expect {
            try T5Encoder(quantized: checkpoint)
        } throws: { error in
            "\(error)".contains("this is a transformer in 4 bits; expected a T5 encoder")
        }
    }
}
