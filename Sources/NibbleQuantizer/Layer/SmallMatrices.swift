internal import CNibbleSystem

/// Factorizations of small matrices in f64, by LAPACK.
enum SmallMatrices {
    /// Fails where there is no library that computes rightly.
    static func requireLibrary() throws(LayerError) {
        guard nibble_lapack_is_usable() else {
            throw .noLAPACK(found: String(cString: nibble_lapack_description()))
        }
    }

    /// Eigenvalues, ascending, and eigenvectors of a symmetric matrix.
    ///
    /// - Parameters:
    ///   - matrix: `[n, n]` row-major; becomes the eigenvectors, one a row.
    ///   - n: its size.
    /// - Returns: the eigenvalues; nil where LAPACK finds none.
    static func eigenvalues(_ matrix: inout [Double], _ n: Int) -> [Double]? {
        precondition(matrix.count == n * n)
        var values = [Double](repeating: 0, count: n)
        return nibble_symmetric_eigen(n, &matrix, &values) == 0 ? values : nil
    }

    /// The lower Cholesky factor of the lower triangle, in place, and its inverse; zeros above the diagonals.
    ///
    /// - Parameters:
    ///   - matrix: `[n, n]` row-major.
    ///   - n: its size.
    /// - Returns: the inverse; nil where the matrix is not positive definite.
    static func choleskyAndInverse(_ matrix: inout [Double], _ n: Int) -> [Double]? {
        precondition(matrix.count == n * n)
        for row in 0..<n { for column in row + 1..<max(n, row + 1) { matrix[row * n + column] = 0 } }
        guard nibble_cholesky(n, &matrix) == 0 else { return nil }
        var inverse = matrix
        return nibble_triangular_inverse(n, &inverse) == 0 ? inverse : nil
    }
}
