import NibbleTensors
import Testing

@testable import NibbleQuantizer

/// What is kept of a layer's inputs, against the same in 64-bit floats over all of them.
@Suite struct InputCollectorTests {
    /// Inputs in pieces of different heights, one of them taller than what is worked at once, as a wider matrix's columns.
    private static let heights = [3, 1500, 1, 64]

    private static func pieces(width: Int) -> [Tensor] {
        var generator = SplitMix(state: 7)
        return heights.map { rows in
            let values = (0..<rows * (width + 5)).map { _ in Float.random(in: -3...2, using: &generator) }
            return Tensor(values, shape: [rows, width + 5]).columns(2..<2 + width)
        }
    }

    private static func collect(width: Int, shift: Float, threads: Int) -> InputCollector {
        let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: threads))
        let collector = InputCollector(
            width: width, tokens: heights.reduce(0, +), kept: 100, shift: shift, wantsMoment: true, seed: 3)
        for piece in pieces(width: width) { collector.add(piece, on: compute) }
        return collector
    }

    @Test(arguments: [1, 33, 130], [Float(0), 0.171875])
    func `maxima, second moments and tokens are those of all inputs`(_ width: Int, _ shift: Float) throws {
        let statistics = Self.collect(width: width, shift: shift, threads: 2).statistics()
        let rows = Self.pieces(width: width).flatMap { piece in
            (0..<piece.rows).map { piece.rows($0..<$0 + 1).floats() }
        }
        let maxima = (0..<width).map { channel in rows.map { abs($0[channel] + shift) }.max() ?? 0 }
        #expect(statistics.maxima.floats() == maxima)
        let moment = try #require(statistics.secondMoment).floats()
        for (first, second) in [(0, 0), (0, width - 1), (width - 1, 0), (width / 2, width / 3)] {
            let exact =
                rows.reduce(0.0) { $0 + Double($1[first] + shift) * Double($1[second] + shift) } / Double(rows.count)
            // Sums of 1568 f32 products of at most 10 in some order: each rounds by at most 2⁻²⁴ of the sum of magnitudes.
            let bound = 10 * Double(rows.count) * 0x1p-24
            #expect(abs(Double(moment[first * width + second]) - exact) < bound)
        }
        let kept = statistics.sample
        #expect(kept.shape == [100, width])
        let all = Set(rows)
        #expect((0..<kept.rows).allSatisfy { all.contains(kept.rows($0..<$0 + 1).floats()) })
    }

    @Test func `the number of threads changes no byte`() throws {
        let one = Self.collect(width: 65, shift: 0, threads: 1).statistics()
        let two = Self.collect(width: 65, shift: 0, threads: 2).statistics()
        #expect(one.maxima.floats() == two.maxima.floats() && one.sample.floats() == two.sample.floats())
        #expect(try #require(one.secondMoment).floats() == #require(two.secondMoment).floats())
    }

    @Test func `fewer tokens than may be kept are all kept`() {
        let compute = Compute(precision: .f32)
        let collector = InputCollector(width: 2, tokens: 2, kept: 10, shift: 0, wantsMoment: false, seed: 0)
        collector.add(Tensor([1, 2, 3, 4], shape: [2, 2]), on: compute)
        #expect(collector.statistics().sample.floats() == [1, 2, 3, 4] && collector.statistics().secondMoment == nil)
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func `a value that is not finite is noticed`(_ value: Float) {
        let collector = InputCollector(width: 3, tokens: 4, kept: 1, shift: 0, wantsMoment: false, seed: 0)
        let compute = Compute(precision: .f32)
        collector.add(Tensor([1, 2, 3, 4, 5, 6], shape: [2, 3]), on: compute)
        #expect(collector.isFinite)
        collector.add(Tensor([1, 2, 3, 4, value, 6], shape: [2, 3]), on: compute)
        #expect(!collector.isFinite)
    }
}
