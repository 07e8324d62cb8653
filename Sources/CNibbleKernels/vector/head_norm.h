// A head's RMS normalization and rotation: sums of a row, and pairs as complex numbers.
//
// Sums go over four vectors in turn, which are added at the end; what is left of a row is added one
// by one. The order depends on the width only.
#ifndef NIBBLE_VECTOR_HEAD_NORM_H
#define NIBBLE_VECTOR_HEAD_NORM_H

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

/// Scales and rotates one head: y [head_dim] of y_type, which may be x itself. cosine and sine are
/// those of its token.
INLINE void normalize_and_rotate(const void *x, nibble_float type, void *y, nibble_float y_type,
                                 size_t head_dim, float factor, const float *gain,
                                 const float *cosine, const float *sine) {
  EACH_VECTOR(head_dim, i, count, {
    floats value = load_part(x, type, i, count) * factor;
    value = rotate(value * load_part(gain, NIBBLE_F32, i, count), load_twice(cosine, i, count),
                   load_twice(sine, i, count));
    store_part(y, y_type, i, count, value);
  })
}

#endif
