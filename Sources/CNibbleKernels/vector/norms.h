// Normalizations of rows. Sums go over four vectors in turn, which are added at the end; what is
// left of a row is added one by one. The order depends on the width only.
#ifndef NIBBLE_VECTOR_NORMS_H
#define NIBBLE_VECTOR_NORMS_H

#include "vector.h"

/// The sum of x - center, or of its squares.
INLINE float sum_around(const void *x, nibble_float type, size_t n, float center, bool squared) {
  floats sums[4] = {};
  float rest = 0;
  size_t i = 0;
  for (; i + 4 * WIDTH <= n; i += 4 * WIDTH) {
    UNROLL for (size_t j = 0; j < 4; j++) {
      floats difference = load(x, type, i + j * WIDTH) - center;
      sums[j] = squared ? multiply_add(difference, difference, sums[j]) : sums[j] + difference;
    }
  }
  for (; i + WIDTH <= n; i += WIDTH) {
    floats difference = load(x, type, i) - center;
    sums[0] = squared ? multiply_add(difference, difference, sums[0]) : sums[0] + difference;
  }
  for (; i < n; i++) {
    float difference = nibble_load(x, type, i) - center;
    rest += squared ? difference * difference : difference;
  }
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest;
}

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

/// The first count / 2 elements of x from index / 2 on, each twice.
INLINE floats load_twice(const float *x, size_t index, size_t count) {
  floats half = {};
  __builtin_memcpy(&half, x + index / 2, count == WIDTH ? sizeof half / 2 : count / 2 * sizeof *x);
  return __builtin_shufflevector(half, half, FIRST_HALVES);
}

/// Adjacent pairs as the complex numbers x0 + x1 i, times cosine + sine i.
INLINE floats rotate(floats x, floats cosine, floats sine) {
  typedef uint64_t pairs __attribute__((vector_size(WIDTH * 4)));
  const pairs sign_of_first = (pairs){} + 0x80000000;
  pairs swapped = (pairs)x << 32 | (pairs)x >> 32;
  floats signed_sine = (floats)((pairs)sine ^ sign_of_first);
  return multiply_add(x, cosine, (floats)swapped * signed_sine);
}

INLINE void rms_norm_rotary_rows(void *x, nibble_float type, size_t x_stride, size_t rows,
                                 size_t heads, size_t head_dim, const float *gain, float epsilon,
                                 const float *cosine, const float *sine) {
  for (size_t row = 0; row < rows; row++) {
    void *head = nibble_mutable_row(x, type, x_stride, row);
    for (size_t h = 0; h < heads; h++, head = nibble_mutable_row(head, type, head_dim, 1)) {
      float mean_square = sum_around(head, type, head_dim, 0, true) / (float)head_dim;
      float factor = 1 / square_root(mean_square + epsilon);
      EACH_VECTOR(head_dim, i, count, {
        floats value = load_part(head, type, i, count) * factor;
        value = rotate(value * load_part(gain, NIBBLE_F32, i, count), load_twice(cosine, i, count),
                       load_twice(sine, i, count));
        store_part(head, type, i, count, value);
      })
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
