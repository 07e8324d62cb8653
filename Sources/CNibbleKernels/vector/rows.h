// Conversions, element by element operations, and sums along columns.
#ifndef NIBBLE_VECTOR_ROWS_H
#define NIBBLE_VECTOR_ROWS_H

#include "exponential.h"

INLINE void convert_type(const void *x, nibble_float x_type, void *y, nibble_float y_type,
                         size_t n) {
  EACH_VECTOR(n, i, count, { store_part(y, y_type, i, count, load_part(x, x_type, i, count)); })
}

static void convert(const void *x, nibble_float x_type, void *y, nibble_float y_type, size_t n) {
  switch (x_type) {
    case NIBBLE_F32:
      FOR_TYPE(y_type, Y, convert_type(x, NIBBLE_F32, y, Y, n))
      break;
    case NIBBLE_BF16:
      FOR_TYPE(y_type, Y, convert_type(x, NIBBLE_BF16, y, Y, n))
      break;
    case NIBBLE_F16:
      FOR_TYPE(y_type, Y, convert_type(x, NIBBLE_F16, y, Y, n))
      break;
    case NIBBLE_F8E4M3:
      FOR_TYPE(y_type, Y, convert_type(x, NIBBLE_F8E4M3, y, Y, n))
      break;
  }
}

INLINE void gated_add_rows(float *stream, size_t stream_stride, const void *branch,
                           nibble_float type, size_t branch_stride, size_t rows, size_t n,
                           const float *gate) {
  for (size_t row = 0; row < rows; row++, stream += stream_stride) {
    const void *source = nibble_row(branch, type, branch_stride, row);
    EACH_VECTOR(n, i, count, {
      floats added = load_part(source, type, i, count);
      floats factor = gate ? load_part(gate, NIBBLE_F32, i, count) : broadcast(1);
      floats sum = multiply_add(factor, added, load_part(stream, NIBBLE_F32, i, count));
      store_part(stream, NIBBLE_F32, i, count, sum);
    })
  }
}

static void gated_add(float *stream, size_t stream_stride, const void *branch, nibble_float type,
                      size_t branch_stride, size_t rows, size_t n, const float *gate){
    FOR_TYPE(type, TYPE,
             gated_add_rows(stream, stream_stride, branch, TYPE, branch_stride, rows, n, gate))}

INLINE void multiply_rows(void *x, size_t x_stride, const void *y, size_t y_stride,
                          nibble_float type, size_t rows, size_t n) {
  for (size_t row = 0; row < rows; row++) {
    void *left = nibble_mutable_row(x, type, x_stride, row);
    const void *right = nibble_row(y, type, y_stride, row);
    EACH_VECTOR(n, i, count, {
      floats product = load_part(left, type, i, count) * load_part(right, type, i, count);
      store_part(left, type, i, count, product);
    })
  }
}

static void multiply(void *x, size_t x_stride, const void *y, size_t y_stride, nibble_float type,
                     size_t rows, size_t n){
    FOR_TYPE(type, TYPE, multiply_rows(x, x_stride, y, y_stride, TYPE, rows, n))}

INLINE floats silu_of(floats x) {
  return x / one_plus_exponential(-x);
}

INLINE void silu_type(const float *x, void *y, nibble_float y_type, size_t n) {
  EACH_VECTOR(n, i, count,
              { store_part(y, y_type, i, count, silu_of(load_part(x, NIBBLE_F32, i, count))); })
}

static void silu(const float *x, void *y, nibble_float y_type,
                 size_t n){FOR_TYPE(y_type, Y, silu_type(x, y, Y, n))}

/// Rows are added one after the other, so that it makes no difference how they are split into
/// calls.
INLINE void column_moments_rows(const void *x, nibble_float type, size_t x_stride, size_t rows,
                                size_t n, double *sums, double *squares) {
  typedef double doubles __attribute__((vector_size(WIDTH * 8)));
  typedef doubles doubles_in_memory __attribute__((aligned(8), may_alias));
  size_t row = 0;
  for (; row < rows; row++) {
    const void *source = nibble_row(x, type, x_stride, row);
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
      doubles value = __builtin_convertvector(load(source, type, i), doubles);
      *(doubles_in_memory *)(sums + i) += value;
      *(doubles_in_memory *)(squares + i) += value * value;
    }
    for (; i < n; i++) {
      double value = nibble_load(source, type, i);
      sums[i] += value;
      squares[i] += value * value;
    }
  }
}

static void column_moments(const void *x, nibble_float type, size_t x_stride, size_t rows, size_t n,
                           double *sums, double *squares){
    FOR_TYPE(type, TYPE, column_moments_rows(x, TYPE, x_stride, rows, n, sums, squares))}

INLINE void scale_offset_rows(const void *x, nibble_float x_type, size_t x_stride, void *y,
                              nibble_float y_type, size_t y_stride, size_t rows, size_t n,
                              const float *gain, const float *offset, bool with_silu) {
  for (size_t row = 0; row < rows; row++) {
    const void *source = nibble_row(x, x_type, x_stride, row);
    void *target = nibble_mutable_row(y, y_type, y_stride, row);
    EACH_VECTOR(n, i, count, {
      floats value =
          multiply_add(load_part(source, x_type, i, count), load_part(gain, NIBBLE_F32, i, count),
                       load_part(offset, NIBBLE_F32, i, count));
      store_part(target, y_type, i, count, with_silu ? silu_of(value) : value);
    })
  }
}

static void scale_offset(const void *x, nibble_float x_type, size_t x_stride, void *y,
                         nibble_float y_type, size_t y_stride, size_t rows, size_t n,
                         const float *gain, const float *offset, bool with_silu) {
  FOR_TYPE(x_type, X,
           FOR_TYPE(
               y_type, Y,
               if (with_silu) {
                 scale_offset_rows(x, X, x_stride, y, Y, y_stride, rows, n, gain, offset, true);
               } else {
                 scale_offset_rows(x, X, x_stride, y, Y, y_stride, rows, n, gain, offset, false);
               }))
}

#endif
