import Foundation
import NibbleTensors
import Testing

@testable import NibbleQuantizer

/// The truncated decomposition against a full one: eigenvalues of AᵀA in float64.
@Suite struct TruncatedSVDTests {
    /// Rows of signs and small numbers whose columns fall off as 1 / (1 + k / 8)^power: 0 is as hard as it gets, noise
    /// whose singular values hardly decay.
    private static func matrix(_ rows: Int, _ columns: Int, power: Double) -> Tensor {
        var random = Numbers(seed: UInt64(rows + columns))
        return Tensor(
            (0..<rows * columns).map { index in
                let decay = pow(1 + Double(index % columns) / 8, -power)
                return Float(random.next() * decay)
            }, shape: [rows, columns])
    }

    private static func squaredNorm(_ values: [Float]) -> Double { values.reduce(0) { $0 + Double($1) * Double($1) } }

    /// ‖A − left · right‖².
    private static func squaredError(_ matrix: Tensor, _ svd: TruncatedSVD) -> Double {
        let right = svd.right.floats()
        let (rank, width) = (svd.right.rows, matrix.width)
        let columns = (0..<width).flatMap { column in (0..<rank).map { right[$0 * width + column] } }
        let product = GoldenLayerCase.product(svd.left.floats(), columns, rank)
        return zip(matrix.floats(), product).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    }

    /// All squared singular values, ascending.
    private static func squaredValues(_ matrix: Tensor) throws -> [Double] {
        let width = matrix.width
        var gram = Gram.ofColumns(matrix, on: ThreadPool(threadCount: 1))
        return try #require(SmallMatrices.eigenvalues(&gram, width))
    }

    @Test(arguments: [(320, 256, 0.0), (320, 256, 0.5), (128, 448, 0.0), (512, 192, 1.5)])
    func theErrorIsTheLeast(_ rows: Int, _ columns: Int, _ power: Double) throws {
        let matrix = Self.matrix(rows, columns, power: power)
        let svd = try TruncatedSVD(
            of: matrix, rank: 32, iterations: 6, seed: 1, on: Compute(precision: .f32), Workspace())
        let all = try Self.squaredValues(matrix).reversed()
        let least = all.dropFirst(32).reduce(0) { $0 + max(0, $1) }
        // Issue 5: within 0.1 % of the full one's error.
        #expect(Self.squaredError(matrix, svd).squareRoot() <= 1.001 * least.squareRoot())
        #expect(Self.squaredError(matrix, svd) >= least * (1 - 1e-5))
    }

    @Test func leftIsOrthonormal() throws {
        let matrix = Self.matrix(320, 256, power: 2)
        let svd = try TruncatedSVD(
            of: matrix, rank: 32, iterations: 3, seed: 1, on: Compute(precision: .f32), Workspace())
        let gram = Gram.ofColumns(svd.left, on: ThreadPool(threadCount: 1))
        // f32 columns of 320 numbers: their products are off by a few units of 2^-24.
        for (index, product) in gram.enumerated() {
            let expected = index % 33 == 0 ? 1.0 : 0.0
            #expect(abs(product - expected) < 1e-5)
        }
        #expect(svd.values == svd.values.sorted(by: >))
    }

    @Test func missingDirectionsAreZero() throws {
        let compute = Compute(precision: .f32)
        let zero = Tensor(zeros: [96, 64], .float32)
        let svd = try TruncatedSVD(of: zero, rank: 32, iterations: 2, seed: 1, on: compute, Workspace())
        #expect(svd.left.floats().allSatisfy { $0 == 0 } && svd.right.floats().allSatisfy { $0 == 0 })
        // One direction, and fewer rows than dimensions are asked for.
        let products: [Float] = (0..<24 * 64).map { index in
            let (row, column) = (index / 64, index % 64)
            return Float((row + 1) * (column + 1))
        }
        let one = Tensor(products, shape: [24, 64])
        let found = try TruncatedSVD(of: one, rank: 32, iterations: 2, seed: 1, on: compute, Workspace())
        #expect(Self.squaredError(one, found) <= 1e-10 * Self.squaredNorm(products))
        #expect(found.left.floats().allSatisfy { $0.isFinite } && found.right.floats().allSatisfy { $0.isFinite })
    }

    @Test func numberOfThreadsAndRunsChangeNothing() throws {
        let matrix = Self.matrix(700, 320, power: 0.3)
        let bits = try [1, 2, 2].map { threads in
            let compute = Compute(precision: .f32, pool: ThreadPool(threadCount: threads))
            let svd = try TruncatedSVD(of: matrix, rank: 16, iterations: 3, seed: 9, on: compute, Workspace())
            return (svd.left.floats() + svd.right.floats()).map(\.bitPattern)
        }
        #expect(bits[0] == bits[1] && bits[1] == bits[2])
    }

    /// The branch that is best for outputs: no other of its rank, such as the weights' own, has a smaller error of
    /// outputs, and ‖(A − L) X‖² is what is left of A X.
    @Test func weightingMakesOutputsBest() throws {
        let compute = Compute(precision: .f32)
        let matrix = Self.matrix(192, 128, power: 0)
        let tokens = Self.matrix(400, 128, power: 1)
        let moment = GoldenLayerCase.statistics(of: tokens, shift: 0)
        let smooth = (0..<128).map { 1 + Float($0 % 5) }
        let weighting = InputWeighting(moment, smooth: smooth, shift: 0)
        let found = try TruncatedSVD(
            of: matrix, rank: 16, iterations: 12, seed: 1, weighting: weighting, on: compute, Workspace())
        // In float64: A diag(1 / smooth) Xᵀ, its full decomposition, and what the found branch leaves.
        let inputs = tokens.floats().enumerated().map { $1 / smooth[$0 % 128] }
        func outputs(_ weights: [Float]) -> Tensor {
            Tensor(GoldenLayerCase.product(inputs, weights, 128).map { Float($0) }, shape: [400, 192])
        }
        let whole = outputs(matrix.floats())
        let least = try Self.squaredValues(whole).dropLast(16).reduce(0) { $0 + max(0, $1) }
        let right = found.right.floats()
        let columns = (0..<128).flatMap { column in (0..<16).map { right[$0 * 128 + column] } }
        let branch = GoldenLayerCase.product(found.left.floats(), columns, 16)
        let left = zip(matrix.floats(), branch).map { Float(Double($0) - $1) }
        #expect(Self.squaredNorm(outputs(left).floats()).squareRoot() <= 1.001 * least.squareRoot())
        // The same from the sample alone.
        let sampled = InputWeighting(
            InputStatistics(maxima: moment.maxima, sample: tokens, secondMoment: nil), smooth: smooth, shift: 0)
        let again = try TruncatedSVD(
            of: matrix, rank: 16, iterations: 12, seed: 1, weighting: sampled, on: compute, Workspace())
        // The moment has the factor 1 / 400, and values are square roots.
        for (one, other) in zip(found.values, again.values) { #expect(abs(one * 20 - other) <= 1e-4 * other) }
    }
}

/// Numbers in -1...1 that are the same in every run (SplitMix64).
struct Numbers {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> Double {
        state &+= 0x9e37_79b9_7f4a_7c15
        var bits = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
        bits ^= bits >> 31
        return Double(Int64(bitPattern: bits)) * 0x1p-63
    }
}
