// The product of a matrix with one row, at the speed of reading the matrix.
#ifndef NIBBLE_VECTOR_ROW_PRODUCT_H
#define NIBBLE_VECTOR_ROW_PRODUCT_H

#include "vector.h"

/// `outputs` rows of W at a time, so that several streams of memory are under way. Each row has its
/// own two sums, so that its result does not depend on which rows it is worked with.
INLINE void product_of_rows(const float *x, const void *w, nibble_float type, size_t w_stride,
                            const float *bias, float *y, size_t in, int outputs) {
  enum { MOST = 4 };
  const void *rows[MOST];
  floats sums[MOST][2] = {};
  UNROLL for (int row = 0; row < outputs; row++) rows[row] = nibble_row(w, type, w_stride, row);
  size_t i = 0;
  // The same columns of the rows that come next: the processor follows a stream only where it is
  // long. Beyond the last row it is a hint without effect.
  uintptr_t ahead = outputs * w_stride * nibble_float_bytes(type);
  for (; i + 2 * WIDTH <= in; i += 2 * WIDTH) {
    UNROLL for (int row = 0; row < outputs; row++) {
      __builtin_prefetch((const void *)((uintptr_t)nibble_row(rows[row], type, i, 1) + ahead));
    }
    UNROLL for (int half = 0; half < 2; half++) {
      size_t index = i + half * WIDTH;
      floats column = load(x, NIBBLE_F32, index);
      UNROLL for (int row = 0; row < outputs; row++) {
        sums[row][half] = multiply_add(load(rows[row], type, index), column, sums[row][half]);
      }
    }
  }
  UNROLL for (int row = 0; row < outputs; row++) {
    float rest = 0;
    for (size_t j = i; j < in; j++) rest += x[j] * nibble_load(rows[row], type, j);
    y[row] = sum_of_lanes(sums[row][0] + sums[row][1]) + rest + (bias ? bias[row] : 0);
  }
}

INLINE void row_product_type(const float *x, const void *w, nibble_float type, size_t w_stride,
                             const float *bias, float *y, size_t in, size_t out) {
  size_t row = 0;
  for (; row + 4 <= out; row += 4) {
    product_of_rows(x, nibble_row(w, type, w_stride, row), type, w_stride, bias ? bias + row : NULL,
                    y + row, in, 4);
  }
  for (; row < out; row++) {
    product_of_rows(x, nibble_row(w, type, w_stride, row), type, w_stride, bias ? bias + row : NULL,
                    y + row, in, 1);
  }
}

static void row_product(const float *x, const void *w, nibble_float w_type, size_t w_stride,
                        const float *bias, float *y, size_t in, size_t out) {
  switch (w_type) {
    case NIBBLE_F32:
      row_product_type(x, w, NIBBLE_F32, w_stride, bias, y, in, out);
      break;
    case NIBBLE_BF16:
      row_product_type(x, w, NIBBLE_BF16, w_stride, bias, y, in, out);
      break;
    case NIBBLE_F16:
      row_product_type(x, w, NIBBLE_F16, w_stride, bias, y, in, out);
      break;
    case NIBBLE_F8E4M3:
      row_product_type(x, w, NIBBLE_F8E4M3, w_stride, bias, y, in, out);
      break;
  }
}

#endif
