#include <math.h>

#include "../scalar.h"
#include "plain.h"
#include "sums.h"

#pragma STDC FP_CONTRACT OFF

static float silu_of(float x) {
  return x / (1 + expf(-x));
}

void nibble_plain_convert(const void *x, nibble_float x_type, void *y, nibble_float y_type,
                          size_t n) {
  for (size_t i = 0; i < n; i++) nibble_store(y, y_type, i, nibble_load(x, x_type, i));
}

void nibble_plain_gated_add(float *stream, size_t stream_stride, const void *branch,
                            nibble_float type, size_t branch_stride, size_t rows, size_t n,
                            const float *gate) {
  for (size_t row = 0; row < rows; row++, stream += stream_stride) {
    const void *added = nibble_row(branch, type, branch_stride, row);
    for (size_t i = 0; i < n; i++) {
      stream[i] += (gate ? gate[i] : 1) * nibble_load(added, type, i);
    }
  }
}

void nibble_plain_multiply(void *x, size_t x_stride, const void *y, size_t y_stride,
                           nibble_float type, size_t rows, size_t n) {
  for (size_t row = 0; row < rows; row++) {
    void *left = nibble_mutable_row(x, type, x_stride, row);
    const void *right = nibble_row(y, type, y_stride, row);
    for (size_t i = 0; i < n; i++) {
      nibble_store(left, type, i, nibble_load(left, type, i) * nibble_load(right, type, i));
    }
  }
}

void nibble_plain_silu(const float *x, void *y, nibble_float y_type, size_t n) {
  for (size_t i = 0; i < n; i++) nibble_store(y, y_type, i, silu_of(x[i]));
}

void nibble_plain_column_moments(const void *x, nibble_float type, size_t x_stride, size_t rows,
                                 size_t n, double *sums, double *squares) {
  for (size_t row = 0; row < rows; row++) {
    const void *source = nibble_row(x, type, x_stride, row);
    for (size_t i = 0; i < n; i++) {
      double value = nibble_load(source, type, i);
      sums[i] += value;
      squares[i] += value * value;
    }
  }
}

void nibble_plain_scale_offset(const void *x, nibble_float x_type, size_t x_stride, void *y,
                               nibble_float y_type, size_t y_stride, size_t rows, size_t n,
                               const float *gain, const float *offset, bool silu) {
  for (size_t row = 0; row < rows; row++) {
    const void *source = nibble_row(x, x_type, x_stride, row);
    void *target = nibble_mutable_row(y, y_type, y_stride, row);
    for (size_t i = 0; i < n; i++) {
      float value = nibble_load(source, x_type, i) * gain[i] + offset[i];
      nibble_store(target, y_type, i, silu ? silu_of(value) : value);
    }
  }
}

void nibble_plain_row_product(const float *x, const void *w, nibble_float w_type, size_t w_stride,
                              const float *bias, float *y, size_t in, size_t out) {
  for (size_t row = 0; row < out; row++) {
    const void *weights = nibble_row(w, w_type, w_stride, row);
    float partial[NIBBLE_PARTIAL_SUMS] = {0};
    for (size_t i = 0; i < in; i++) {
      partial[i % NIBBLE_PARTIAL_SUMS] += x[i] * nibble_load(weights, w_type, i);
    }
    y[row] = nibble_add_partial_sums(partial) + (bias ? bias[row] : 0);
  }
}
