// The exact sums of AVX2, which has no instruction for four products at once: VPMADDUBSW multiplies
// unsigned bytes with signed ones and adds pairs in 16 bits. A pair is at most 2 · 15 · 127 = 3,810
// in magnitude, so that eight of them stay below 32,768 and none is cut off; then pairs of those
// are added in 32 bits.
#ifndef NIBBLE_AVX2_QUANTIZED_H
#define NIBBLE_AVX2_QUANTIZED_H

// Of 16 registers, 8 hold sums.
#define PRODUCT_ROWS 4
#define PRODUCT_TILES 1

#include "half_step.h"

INLINE __m256i add_products(__m256i sum, __m256i weights, __m256i activations) {
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, activations));
}

INLINE void sum_group(const group_operands *x, ints sums[PRODUCT_ROWS][VECTORS_OF_TILE]) {
  const __m256i one = _mm256_set1_epi16(1);
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int v = 0; v < 2; v++) sums[row][v] = (ints)_mm256_set1_epi32(x->starts[row]);
  }
  // Four steps of eight inputs are eight pairs.
  UNROLL for (int part = 0; part < 2; part++) {
    __m256i pairs[PRODUCT_ROWS][2] = {};
    UNROLL for (int step = 4 * part; step < 4 * part + 4; step++) {
      UNROLL for (int half = 0; half < 2; half++) add_half_step(x, step, half, pairs);
    }
    UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
      UNROLL for (int v = 0; v < 2; v++) {
        sums[row][v] += (ints)_mm256_madd_epi16(pairs[row][v], one);
      }
    }
  }
}

#endif
