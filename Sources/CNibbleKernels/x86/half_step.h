// The 4-bit product in vectors of 256 bits: four inputs, half of what lies together, of a tile's 16
// outputs.
#ifndef NIBBLE_HALF_STEP_H
#define NIBBLE_HALF_STEP_H

#include <immintrin.h>

#include "../vector/group_by_group.h"

/// Adds the products of unsigned bytes and signed ones to what lies beneath them.
INLINE __m256i add_products(__m256i sum, __m256i weights, __m256i activations);

INLINE void add_half_step(const group_operands *x, int step, int half,
                          __m256i sums[PRODUCT_ROWS][2]) {
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256i unpacked[2];
  UNROLL for (int v = 0; v < 2; v++) {
    __m256i packed = _mm256_loadu_si256((const __m256i *)(x->weights + step * 64 + v * 32));
    packed = half == 0 ? packed : _mm256_srli_epi16(packed, 4);
    unpacked[v] = _mm256_and_si256(packed, low_half);
  }
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    int32_t four;
    memcpy(&four, x->codes + row * GROUP + step * 8 + half * 4, sizeof four);
    __m256i activations = _mm256_set1_epi32(four);
    UNROLL for (int v = 0; v < 2; v++) {
      sums[row][v] = add_products(sums[row][v], unpacked[v], activations);
    }
  }
}

#endif
