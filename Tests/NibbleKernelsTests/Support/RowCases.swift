import CNibbleKernels
import Testing

/// Sizes around every vector and unrolled loop.
enum RowCases {
    static let rows = [1, 2, 5]
    static let widths = [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 257, 1021]
    static let types = [NIBBLE_F32, NIBBLE_BF16]
}

/// Bounds on what float32 sums lose, relative to the sum of the magnitudes: n terms in no less than 8 partial sums, some
/// 40 of them one by one in a row's rest and in joining the partial sums, each addition off by at most u = 2^-24.
func sumRoundoff(_ n: Int) -> Double { (Double(n) / 8 + 40) * 0x1p-24 }

/// Adds what storing a value in `type` may lose.
func storedBound(_ bound: Double, _ value: Double, _ type: nibble_float) -> Double {
    bound + unitRoundoff(type) * (abs(value) + bound) + smallestNormal
}

/// What a kernel wrote, compared with float64 and with plain C within twice the bound.
struct RowChecker {
    private var plain: [Double] = []

    mutating func check(
        _ set: KernelSet, _ output: [Float], _ expected: [Double], _ bound: [Double], _ label: @autoclosure () -> String
    ) {
        expectClose(output, expected, within: bound, "\(set.name) \(label())")
        if set.isa == NIBBLE_ISA_PLAIN {
            plain = output.map(Double.init)
        } else {
            expectClose(output, plain, within: bound.map { 2 * $0 }, "\(set.name), plain \(label())")
        }
    }
}
