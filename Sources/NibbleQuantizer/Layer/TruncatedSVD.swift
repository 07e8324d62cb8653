internal import NibbleTensors

/// The leading part of a singular value decomposition, A ≈ left · right with left = U and right = Σ Vᵀ, by randomised
/// subspace iteration (Halko, Martinsson, Tropp, arXiv 0909.4061, algorithms 4.4 and 5.1). Products are f32, what is
/// small f64.
struct TruncatedSVD {
    /// U: `[rows, rank]` f32, orthonormal columns.
    let left: Tensor
    /// Σ Vᵀ: `[rank, in]` f32.
    let right: Tensor
    /// The singular values, descending.
    let values: [Double]
    /// What a decomposition of a similar matrix may start from: `[rank and some more, in]` f32.
    let subspace: Tensor

    /// Dimensions beyond the rank: where singular values decay slowly, 16 and two iterations leave the error within
    /// 0.1 % of the least (tested).
    private static let oversampling = 16

    /// Decomposes a matrix.
    ///
    /// - Parameters:
    ///   - matrix: `[rows, in]` f32; in a multiple of 64.
    ///   - rank: how many singular values; a multiple of 16. Where the matrix has fewer, the rest is zero.
    ///   - iterations: how often the subspace is multiplied by AᵀA.
    ///   - start: a subspace to start from; nil: a random one.
    ///   - seed: of the random one.
    ///   - weighting: the rows' inner product S; nil: the ordinary one. With it left is U of the decomposition of A S^½,
    ///     and right = Uᵀ A, so that ‖(A − left · right) S^½‖ is least instead of ‖A − left · right‖.
    ///   - compute: what computes.
    ///   - memory: for temporaries.
    /// - Throws: `LayerError.notFactorized`, without the layer's name.
    init(
        of matrix: Tensor, rank: Int, iterations: Int, start: Tensor? = nil, seed: UInt64,
        weighting: InputWeighting? = nil, on compute: Compute, _ memory: Workspace
    ) throws(LayerError) {
        let size = rank + Self.oversampling
        let (rows, inputs) = (matrix.rows, matrix.width)
        let subspace = Tensor(zeros: [size, inputs], .float32)
        if let start, start.shape == subspace.shape {
            compute.convert(start, into: subspace)
        } else {
            Self.fillWithSigns(subspace, seed: seed)
        }
        let solved: (Tensor, Tensor, [Double])? = memory.scope {
            let basis = memory.tensor([rows, size], .float32)
            let other = memory.tensor([rows, size], .float32)
            let weighted = weighting == nil ? subspace : memory.tensor([size, inputs], .float32)
            for _ in 0...iterations {
                weighting?.apply(to: subspace, into: weighted, on: compute)
                compute.product(matrix, weighted, bias: nil, into: basis)
                guard Self.orthonormalize(basis, other, on: compute) else { return nil }
                compute.transposedProduct(basis, matrix, into: subspace)
            }
            weighting?.apply(to: subspace, into: weighted, on: compute)
            return Self.rotate(basis, subspace, weighted, rank: rank, on: compute)
        }
        guard let solved else { throw .notFactorized(layer: "", reason: "LAPACK finds no eigenvalues (dsyevd)") }
        (left, right, values) = solved
        self.subspace = subspace
    }

    /// A Qᵀ Q = basis · subspace with orthonormal basis: its singular vectors are those of the small subspace, of whose
    /// rows the products are decomposed.
    private static func rotate(
        _ basis: Tensor, _ subspace: Tensor, _ weighted: Tensor, rank: Int, on compute: Compute
    ) -> (Tensor, Tensor, [Double])? {
        let size = subspace.rows
        var gram = Gram.ofRows(subspace, weighted, on: compute.pool)
        guard let ascending = SmallMatrices.eigenvalues(&gram, size) else { return nil }
        let rotation = Tensor(zeros: [rank, size], .float32)
        let transposed = Tensor(zeros: [size, rank], .float32)
        for row in 0..<rank {
            for column in 0..<size {
                let value = Float(gram[(size - 1 - row) * size + column])
                rotation.elements[row * size + column] = value
                transposed.elements[column * rank + row] = value
            }
        }
        let left = Tensor(zeros: [basis.rows, rank], .float32)
        let right = Tensor(zeros: [rank, subspace.width], .float32)
        compute.product(basis, rotation, bias: nil, into: left)
        compute.transposedProduct(transposed, subspace, into: right)
        return (left, right, ascending.reversed().prefix(rank).map { max(0, $0).squareRoot() })
    }

    /// Makes the columns of a matrix orthonormal, by the eigenvectors of their inner products. Directions that are not
    /// there become zero. One pass leaves what f32 products lose, which grows with the spread of the lengths; passes
    /// follow until there is none.
    private static func orthonormalize(_ basis: Tensor, _ other: Tensor, on compute: Compute) -> Bool {
        let size = basis.width
        let rotation = Tensor(zeros: [size, size], .float32)
        // Three passes halve the digits' loss to nothing: each squares the spread that is left.
        for _ in 0..<3 {
            var gram = Gram.ofColumns(basis, on: compute.pool)
            guard let values = SmallMatrices.eigenvalues(&gram, size), let largest = values.last else { return false }
            // f32 data has no directions below 2^-24 of the largest, of which the values are squares.
            let least = largest * 0x1p-46
            for row in 0..<size {
                let factor = values[row] > least && values[row] > 0 ? 1 / values[row].squareRoot() : 0
                for column in 0..<size {
                    rotation.elements[row * size + column] = Float(gram[row * size + column] * factor)
                }
            }
            compute.product(basis, rotation, bias: nil, into: other)
            compute.convert(other, into: basis)
            let smallest = values.first { $0 > least } ?? largest
            if smallest > largest * 0x1p-8 { break }
        }
        return true
    }

    /// Signs at random: as good as normal numbers here.
    private static func fillWithSigns(_ matrix: Tensor, seed: UInt64) {
        var generator = SplitMix(state: seed)
        var bits: UInt64 = 0
        for index in 0..<matrix.elementCount {
            if index.isMultiple(of: 64) { bits = generator.next() }
            matrix.elements[index] = bits & 1 == 0 ? 1 : -1
            bits >>= 1
        }
    }
}

extension Tensor {
    /// The numbers of an f32 tensor.
    var elements: UnsafeMutablePointer<Float> {
        precondition(dtype == .float32)
        return mutableAddress.assumingMemoryBound(to: Float.self)
    }
}
