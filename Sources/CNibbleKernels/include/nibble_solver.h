// What the quantizer spends its time in: rounding weights to 4 bits, and the products and sums of
// tall matrices from which a low-rank branch is found. The functions are in the table of
// nibble_kernels.h.
//
// All arrays are f32 and row-major; `in` is a multiple of NIBBLE_GROUP.
#ifndef NIBBLE_SOLVER_H
#define NIBBLE_SOLVER_H

#include <stddef.h>
#include <stdint.h>

#include "nibble_quantized.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// Columns that are rounded one after the other (GPTQ; Frantar et al., arXiv 2210.17323), described
/// by the factor of their second moment: reversed and permuted it is L Lᵀ, and columns are worked
/// from the last to the first.
typedef struct NIBBLE_SENDABLE nibble_feedback {
  size_t count;           ///< columns, a multiple of 16, 256 at most
  const float *factor;    ///< [count, count]: L[j][i] / L[i][i] below the diagonal, else zeros
  const float *divisor;   ///< [count]: 1 / L[i][i]
  const int32_t *column;  ///< [count]: where in a row of codes a column lies
} nibble_feedback;

typedef struct NIBBLE_SENDABLE nibble_solver {
  /// Rows of `in`: w -= up down, up [rows, rank], down [rank, in]; ranks ascending.
  void (*subtract_product)(float *w, size_t w_stride, const float *up, const float *down,
                           size_t rank, size_t rows, size_t in);

  /// Rows of `in`: each group's scale is bf16(absmax / 7), or 1 where all are zero, and the codes
  /// are rne(w / scale) within -7 ... 7 (SVDQuant's symmetric rounding).
  void (*round_weights)(const float *w, size_t w_stride, size_t rows, size_t in, int8_t *codes,
                        uint16_t *scales);

  /// Rows of `in`: w -= code · scale.
  void (*subtract_rounded)(float *w, size_t w_stride, const int8_t *codes, const uint16_t *scales,
                           size_t rows, size_t in);

  /// Rows of `count` columns of w, from the last to the first: code = rne(t / scale) within -7 ...
  /// 7 for t = w + what the columns before lost, of which `carried` [rows, count] is the part of
  /// those outside of these columns, times L[i][i]. w becomes w - code · scale. codes and scales
  /// are those of whole rows of `in`.
  void (*round_with_feedback)(const nibble_feedback *feedback, float *w, size_t w_stride,
                              const float *carried, size_t rows, size_t in, int8_t *codes,
                              const uint16_t *scales);

  /// z [rank, n] = yᵀ w: y [rows, rank], w [rows, n]; rank a multiple of 4, n of NIBBLE_GROUP.
  /// Sums are made in pieces of 128 rows.
  void (*transposed_product)(const float *y, size_t rank, const float *w, size_t w_stride,
                             size_t rows, size_t n, float *z, size_t z_stride);

  /// Σ (x - y)² of n elements.
  double (*squared_distance)(const float *x, const float *y, size_t n);
} nibble_solver;

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
