import NibbleTestSupport
import Testing

@testable import NibbleTensors

/// Against a direct sum in double precision.
@Suite struct ConvolutionTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var height: Int, width: Int, input: Int, output: Int
        var geometry = ConvolutionGeometry(kernel: 3, paddingBefore: 1)
        var testDescription: String { "\(height)x\(width) \(input)>\(output) \(geometry)" }
    }

    static let same = ConvolutionGeometry(kernel: 3, paddingBefore: 1)
    static let halving = ConvolutionGeometry(kernel: 3, stride: 2, paddingBefore: 0, paddingAfter: 1)

    /// Channels with and without remainders of the vectors' widths; one pixel, one row, one column; heights around one
    /// and two bands of the picture's own band height (4 for small ones, 8 at 128 rows).
    static let cases: [Case] =
        [1, 3, 4, 5, 7, 8, 9, 12].map { Case(height: $0, width: 6, input: 16, output: 16) }
        + [127, 128, 129, 136].map { Case(height: $0, width: 3, input: 3, output: 5) }
        + [(3, 16), (16, 3), (33, 33), (1, 1), (16, 33)].map { Case(height: 5, width: 9, input: $0.0, output: $0.1) }
        + [(1, 1), (1, 7), (7, 1), (2, 2)].map { Case(height: $0.0, width: $0.1, input: 16, output: 3) }
        + [(2, 2), (8, 8), (9, 7), (18, 16)].map {
            Case(height: $0.0, width: $0.1, input: 16, output: 33, geometry: halving)
        }
        + [
            Case(height: 6, width: 5, input: 16, output: 33, geometry: .init(kernel: 1)),
            Case(height: 6, width: 5, input: 3, output: 3, geometry: .init(kernel: 3)),
            Case(height: 9, width: 6, input: 3, output: 16, geometry: .init(kernel: 3, paddingBefore: 2)),
            Case(height: 9, width: 9, input: 16, output: 16, geometry: .init(kernel: 3, stride: 2, paddingBefore: 1)),
        ]

    /// Values in -1…1 that bfloat16 holds exactly, so that both precisions have the same operands.
    static func values(_ count: Int, seed: Int) -> [Float] {
        (0..<count).map { index in
            let step = (index * 7919 + seed * 104_729 + 13) % 257
            return Float(step - 128) / 128
        }
    }

    /// y and the sum of the terms' absolute values, which bounds the error.
    static func reference(_ x: [Float], _ w: [Float], _ bias: [Float], _ c: Case) -> [(sum: Double, size: Double)] {
        let geometry = c.geometry
        let (height, width) = (geometry.outputs(c.height), geometry.outputs(c.width))
        var y: [(sum: Double, size: Double)] = []
        for row in 0..<height {
            for column in 0..<width {
                for out in 0..<c.output {
                    var (sum, size) = (Double(bias[out]), Double(abs(bias[out])))
                    for dy in 0..<geometry.kernel {
                        for dx in 0..<geometry.kernel {
                            let (sy, sx) = (
                                row * geometry.stride + dy - geometry.paddingBefore,
                                column * geometry.stride + dx - geometry.paddingBefore
                            )
                            guard 0..<c.height ~= sy, 0..<c.width ~= sx else { continue }
                            for channel in 0..<c.input {
                                let term =
                                    Double(x[(sy * c.width + sx) * c.input + channel])
                                    * Double(
                                        w[((out * c.input + channel) * geometry.kernel + dy) * geometry.kernel + dx])
                                sum += term
                                size += abs(term)
                            }
                        }
                    }
                    y.append((sum, size))
                }
            }
        }
        return y
    }

    static func weights(_ c: Case) -> (ConvolutionWeights, w: [Float], bias: [Float]) {
        let kernel = c.geometry.kernel
        let w = values(c.output * c.input * kernel * kernel, seed: 2)
        let bias = values(c.output, seed: 3)
        let weights = ConvolutionWeights(
            Tensor(w, shape: [c.output, c.input, kernel, kernel]), bias: Tensor(bias, shape: [c.output]),
            geometry: c.geometry)
        return (weights, w, bias)
    }

    static func map(_ values: [Float], _ height: Int, _ width: Int) -> FeatureMap {
        FeatureMap(
            Tensor(values, shape: [height * width, values.count / height / width]), height: height, width: width)
    }

    /// f32 sums of n terms err by at most n · 2⁻²⁴ of the terms' sizes in any order; both precisions have the same
    /// operands, and their products are exact in 32 bits for bf16.
    @Test(arguments: cases, Precision.allCases)
    func equalsTheDirectSum(_ c: Case, _ precision: Precision) {
        let compute = Compute(precision: precision, pool: ThreadPool(threadCount: 2))
        let (weights, w, bias) = Self.weights(c)
        let x = Self.values(c.height * c.width * c.input, seed: 1)
        let expected = Self.reference(x, w, bias, c)
        let (height, width) = (c.geometry.outputs(c.height), c.geometry.outputs(c.width))
        let y = Self.map(Array(repeating: .nan, count: expected.count), height, width)
        compute.convolve(Self.map(x, c.height, c.width), with: weights, into: y)
        let terms = Double(c.input * c.geometry.kernel * c.geometry.kernel + 1)
        for (found, expected) in zip(y.tensor.floats(), expected) {
            #expect(abs(Double(found) - expected.sum) <= terms * 0x1p-24 * expected.size)
        }
    }

    @Test(arguments: Precision.allCases, [DType.float32, .bfloat16])
    func addsToWhatIsThere(_ precision: Precision, _ stored: DType) {
        let compute = Compute(precision: precision, pool: ThreadPool(threadCount: 2))
        let c = Case(height: 11, width: 5, input: 16, output: 7)
        let (weights, w, bias) = Self.weights(c)
        let x = Self.values(c.height * c.width * c.input, seed: 1)
        let before = Self.values(c.height * c.width * c.output, seed: 4)
        let tensor = Tensor(zeros: [c.height * c.width, c.output], stored)
        compute.convert(Tensor(before, shape: tensor.shape), into: tensor)
        compute.convolve(
            Self.map(x, c.height, c.width), with: weights,
            into: FeatureMap(tensor, height: c.height, width: c.width), adding: true)
        // The bound of the sum, and where the result is stored in bf16 one rounding of 8 bits.
        let rounding = stored == .bfloat16 ? 0x1p-8 : 0x1p-24
        for (index, (found, expected)) in zip(tensor.floats(), Self.reference(x, w, bias, c)).enumerated() {
            let sum = expected.sum + Double(before[index])
            #expect(abs(Double(found) - sum) <= 150 * 0x1p-24 * (expected.size + 1) + abs(sum) * rounding)
        }
    }

    /// Nearest-neighbor interpolation and SiLU on the way in are the same as done before.
    @Test(arguments: [1, 4, 5, 70], Precision.allCases)
    func transformsOnTheWayIn(_ height: Int, _ precision: Precision) {
        let compute = Compute(precision: precision, pool: ThreadPool(threadCount: 2))
        let width = 3
        let (weights, w, bias) = Self.weights(Case(height: 1, width: 1, input: 16, output: 4))
        let x = Self.values(height * width * 16, seed: 5)
        let doubled = (0..<2 * height * 2 * width).flatMap { pixel in
            let source = pixel / (2 * width) / 2 * width + pixel % (2 * width) / 2
            return x[source * 16..<(source + 1) * 16]
        }
        let big = Case(height: 2 * height, width: 2 * width, input: 16, output: 4)
        let y = Self.map(Array(repeating: .nan, count: 4 * height * width * 4), 2 * height, 2 * width)
        compute.convolve(Self.map(x, height, width), .doubled, with: weights, into: y)
        for (found, expected) in zip(y.tensor.floats(), Self.reference(doubled, w, bias, big)) {
            #expect(abs(Double(found) - expected.sum) <= 150 * 0x1p-24 * expected.size)
        }

        let gain = Self.values(16, seed: 6)
        let offset = Self.values(16, seed: 7)
        var moments = ChannelMoments(channels: 16)
        compute.addMoments(of: Self.map(x, height, width), to: &moments)
        let scale = ChannelScale(moments, groups: 4, gain: gain, offset: offset, epsilon: 1e-6)
        let normalized = Self.groupNormSiLU(x, groups: 4, gain: gain, offset: offset)
        let small = Case(height: height, width: width, input: 16, output: 4)
        let z = Self.map(Array(repeating: .nan, count: height * width * 4), height, width)
        compute.convolve(Self.map(x, height, width), .scaledSiLU(scale), with: weights, into: z)
        // The operand errs by some units of its own precision: 2⁻²² relative to its largest value in f32 (the SiLU's
        // exponential included), half a unit of 8 bits in bf16.
        let rounding = compute.convolutionOperand == .bfloat16 ? 0x1p-8 : 0x1p-21
        let largest = Double(normalized.map(abs).max() ?? 0)
        for (found, expected) in zip(z.tensor.floats(), Self.reference(normalized, w, bias, small)) {
            let bound = 150 * 0x1p-24 * expected.size + rounding * (expected.size + largest)
            #expect(abs(Double(found) - expected.sum) <= bound)
        }
    }

    static func groupNormSiLU(_ x: [Float], groups: Int, gain: [Float], offset: [Float]) -> [Float] {
        let channels = gain.count
        let size = channels / groups
        var y = x
        for group in 0..<groups {
            let members = x.indices.filter { $0 % channels / size == group }
            let mean = members.reduce(0) { $0 + Double(x[$1]) } / Double(members.count)
            let variance = members.reduce(0) { $0 + (Double(x[$1]) - mean) * (Double(x[$1]) - mean) }
            let inverse = 1 / (variance / Double(members.count) + 1e-6).squareRoot()
            for index in members {
                let channel = index % channels
                let value = (Double(x[index]) - mean) * inverse * Double(gain[channel]) + Double(offset[channel])
                y[index] = Float(value / (1 + exponential(-value)))
            }
        }
        return y
    }

    /// exp(x) by squaring its Taylor series' start, good to 1e-15 for |x| < 30: the test needs no library of its own.
    static func exponential(_ x: Double) -> Double {
        let small = x / 1024
        var term = 1.0
        var sum = 1.0
        for order in 1...12 {
            term *= small / Double(order)
            sum += term
        }
        for _ in 0..<10 { sum *= sum }
        return sum
    }

    /// Pictures may be made side by side in a process. oneDNN 2.6 mixes up convolutions of different operands that are
    /// compiled at the same moment, unless it is kept from it.
    @Test func compilesOnSeveralThreadsAtOnce() async {
        await withTaskGroup(of: Void.self) { group in
            for precision in Precision.allCases {
                group.addTask {
                    for _ in 0..<300 { for c in Self.cases[12..<17] { equalsTheDirectSum(c, precision) } }
                }
            }
        }
    }

    /// Rows computed in pieces are those computed at once, and so are the moments if the pieces end where bands do.
    @Test func worksInPieces() {
        let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: 2))
        let (height, width) = (70, 5)
        let (weights, _, _) = Self.weights(Case(height: 1, width: 1, input: 16, output: 8))
        let x = Self.map(Self.values(height * width * 16, seed: 1), height, width)
        let whole = Self.map(Array(repeating: .nan, count: height * width * 8), height, width)
        let pieces = Self.map(Array(repeating: .nan, count: height * width * 8), height, width)
        compute.convolve(x, with: weights, into: whole)
        let band = FeatureMap.bandHeight(height: height, width: width)
        var moments = ChannelMoments(channels: 8)
        for first in stride(from: 0, to: height, by: 2 * band) {
            let rows = first..<min(first + 2 * band, height)
            let seen = max(rows.lowerBound - 1, 0)..<min(rows.upperBound + 1, height)
            compute.convolve(x.slice(seen), with: weights, into: pieces.slice(rows))
            compute.addMoments(of: whole.slice(rows), to: &moments)
        }
        #expect(whole.tensor.floats() == pieces.tensor.floats())
        var atOnce = ChannelMoments(channels: 8)
        compute.addMoments(of: whole, to: &atOnce)
        #expect(atOnce.sums == moments.sums && atOnce.squares == moments.squares)
    }

    @Test(arguments: Precision.allCases)
    func doesNotDependOnThreads(_ precision: Precision) {
        let (height, width) = (40, 33)
        let (weights, _, _) = Self.weights(Case(height: 1, width: 1, input: 33, output: 16))
        let x = Self.map(Self.values(height * width * 33, seed: 1), height, width)
        let results = [1, 2, 5].map { threads in
            let compute = Compute(precision: precision, pool: ThreadPool(threadCount: threads))
            let y = Self.map(Array(repeating: .nan, count: height * width * 16), height, width)
            compute.convolve(x, with: weights, into: y)
            return y.tensor.floats()
        }
        #expect(results[0] == results[1] && results[0] == results[2])
    }
}
