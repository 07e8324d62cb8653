// Normalizations of rows.
#ifndef NIBBLE_VECTOR_NORMS_H
#define NIBBLE_VECTOR_NORMS_H

#include "head_norm.h"

INLINE void layer_norm_rows(const float *x, size_t x_stride, void *y, nibble_float y_type,
                            size_t y_stride, size_t rows, size_t n, const float *gain,
                            const float *offset, float epsilon) {
  for (size_t row = 0; row < rows; row++, x += x_stride) {
    void *target = nibble_mutable_row(y, y_type, y_stride, row);
    float mean = sum_around(x, NIBBLE_F32, n, 0, false) / (float)n;
    float variance = sum_around(x, NIBBLE_F32, n, mean, true) / (float)n;
    float factor = 1 / square_root(variance + epsilon);
    EACH_VECTOR(n, i, count, {
      floats value = (load_part(x, NIBBLE_F32, i, count) - mean) * factor;
      if (gain) value *= load_part(gain, NIBBLE_F32, i, count);
      if (offset) value += load_part(offset, NIBBLE_F32, i, count);
      store_part(target, y_type, i, count, value);
    })
  }
}

static void layer_norm(const float *x, size_t x_stride, void *y, nibble_float y_type,
                       size_t y_stride, size_t rows, size_t n, const float *gain,
                       const float *offset, float epsilon) {
  if (y_type == NIBBLE_F32) {
    layer_norm_rows(x, x_stride, y, NIBBLE_F32, y_stride, rows, n, gain, offset, epsilon);
  } else {
    layer_norm_rows(x, x_stride, y, NIBBLE_BF16, y_stride, rows, n, gain, offset, epsilon);
  }
}

INLINE void rms_norm_rows(const float *x, size_t x_stride, void *y, nibble_float y_type,
                          size_t y_stride, size_t rows, size_t n, const float *gain,
                          float epsilon) {
  for (size_t row = 0; row < rows; row++, x += x_stride) {
    void *target = nibble_mutable_row(y, y_type, y_stride, row);
    float factor = 1 / square_root(sum_around(x, NIBBLE_F32, n, 0, true) / (float)n + epsilon);
    EACH_VECTOR(n, i, count, {
      floats value = load_part(x, NIBBLE_F32, i, count) * factor;
      store_part(target, y_type, i, count, value * load_part(gain, NIBBLE_F32, i, count));
    })
  }
}

static void rms_norm(const float *x, size_t x_stride, void *y, nibble_float y_type, size_t y_stride,
                     size_t rows, size_t n, const float *gain, float epsilon) {
  if (y_type == NIBBLE_F32) {
    rms_norm_rows(x, x_stride, y, NIBBLE_F32, y_stride, rows, n, gain, epsilon);
  } else {
    rms_norm_rows(x, x_stride, y, NIBBLE_BF16, y_stride, rows, n, gain, epsilon);
  }
}

INLINE void rms_norm_rotary_rows(void *x, nibble_float type, size_t x_stride, size_t rows,
                                 size_t heads, size_t head_dim, const float *gain, float epsilon,
                                 const float *cosine, const float *sine) {
  for (size_t row = 0; row < rows; row++) {
    void *head = nibble_mutable_row(x, type, x_stride, row);
    for (size_t h = 0; h < heads; h++, head = nibble_mutable_row(head, type, head_dim, 1)) {
      float mean_square = sum_around(head, type, head_dim, 0, true) / (float)head_dim;
      float factor = 1 / square_root(mean_square + epsilon);
      normalize_and_rotate(head, type, head, type, head_dim, factor, gain, cosine, sine);
    }
    cosine += head_dim / 2;
    sine += head_dim / 2;
  }
}

static void rms_norm_rotary(void *x, nibble_float type, size_t x_stride, size_t rows, size_t heads,
                            size_t head_dim, const float *gain, float epsilon, const float *cosine,
                            const float *sine) {
  if (type == NIBBLE_F32) {
    rms_norm_rotary_rows(x, NIBBLE_F32, x_stride, rows, heads, head_dim, gain, epsilon, cosine,
                         sine);
  } else {
    rms_norm_rotary_rows(x, NIBBLE_BF16, x_stride, rows, heads, head_dim, gain, epsilon, cosine,
                         sine);
  }
}

#endif
