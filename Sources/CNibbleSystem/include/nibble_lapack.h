// LAPACK's factorizations of small matrices in f64, one thread a call.
//
// The library is looked for when it is first asked for, so that programs that factorize nothing
// need none. It is used only after each routine has solved problems whose answers can be checked:
// OpenBLAS 0.3.21, which Debian 12 has, computes wrongly on some processors that are newer than it.
//
// Matrices are row-major. Functions return LAPACK's `info`, 0 for success, and -1 where there is no
// library; n is at most 8192.
#ifndef NIBBLE_LAPACK_H
#define NIBBLE_LAPACK_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// Whether a library was found and computes rightly.
bool nibble_lapack_is_usable(void);

/// Which library is used and in what way; or else which were tried, and what was wrong with each.
/// Lives as long as the program.
const char *nibble_lapack_description(void);

/// a [n, n] symmetric becomes its eigenvectors, one a row, in the order of values [n], ascending.
int nibble_symmetric_eigen(size_t n, double *a, double *values);

/// a [n, n] symmetric positive definite, of which the lower triangle is read, becomes L with a = L
/// Lᵀ; above the diagonal it is left alone. Returns i > 0 where the leading i rows are not positive
/// definite.
int nibble_cholesky(size_t n, double *a);

/// The lower triangle of l [n, n] becomes that of its inverse.
int nibble_triangular_inverse(size_t n, double *l);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
