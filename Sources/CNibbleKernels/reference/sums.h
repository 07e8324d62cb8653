// Sums of many floats in one fixed order: sixteen partial sums, element i in sum i mod 16, added
// pairwise at the end. Sixteen short sums lose less to rounding than one long one.
#ifndef NIBBLE_SUMS_H
#define NIBBLE_SUMS_H

#include <stddef.h>

enum { NIBBLE_PARTIAL_SUMS = 16 };

static inline float nibble_add_partial_sums(float *partial) {
  for (size_t half = NIBBLE_PARTIAL_SUMS / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; i++) partial[i] += partial[i + half];
  }
  return partial[0];
}

static inline float nibble_sum(const float *x, size_t n) {
  float partial[NIBBLE_PARTIAL_SUMS] = {0};
  for (size_t i = 0; i < n; i++) partial[i % NIBBLE_PARTIAL_SUMS] += x[i];
  return nibble_add_partial_sums(partial);
}

/// The sum of (x - center)².
static inline float nibble_sum_of_squares(const float *x, float center, size_t n) {
  float partial[NIBBLE_PARTIAL_SUMS] = {0};
  for (size_t i = 0; i < n; i++) {
    float difference = x[i] - center;
    partial[i % NIBBLE_PARTIAL_SUMS] += difference * difference;
  }
  return nibble_add_partial_sums(partial);
}

#endif
