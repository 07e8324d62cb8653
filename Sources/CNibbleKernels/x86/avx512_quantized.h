// The exact sums of AVX-512 VNNI: VPDPBUSD multiplies unsigned bytes with signed ones and adds four
// products to a 32-bit sum.
#ifndef NIBBLE_AVX512_QUANTIZED_H
#define NIBBLE_AVX512_QUANTIZED_H

#include <immintrin.h>

// Of 32 registers, 12 hold exact sums and 12 scaled ones. 6 rows by 2 tiles read the codes of wide
// layers too often.
#define PRODUCT_ROWS 4
#define PRODUCT_TILES 3

#include "../vector/quantized_product.h"

INLINE void sum_group(const int8_t *codes, const int32_t *starts, const uint8_t *weights,
                      size_t tile_bytes, ints sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  const __m512i low_half = _mm512_set1_epi8(15);
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      sums[row][tile] = (ints)_mm512_set1_epi32(starts[row]);
    }
  }
  UNROLL for (int step = 0; step < GROUP / 8; step++) {
    // Loads stay in their step: moved ahead of it, they would push sums out of their registers.
    __asm__ volatile("" ::: "memory");
    // Two groups ahead; beyond the last weights it is a hint without effect.
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      __builtin_prefetch(
          (void *)((uintptr_t)weights + tile * tile_bytes + 2 * GROUP_BYTES + step * 64));
    }
    __m512i unpacked[2][PRODUCT_TILES];
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      __m512i packed = _mm512_loadu_si512(weights + tile * tile_bytes + step * 64);
      unpacked[0][tile] = _mm512_and_si512(packed, low_half);
      unpacked[1][tile] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low_half);
    }
    UNROLL for (int half = 0; half < 2; half++) {
      UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
        int32_t four;
        memcpy(&four, codes + row * GROUP + step * 8 + half * 4, sizeof four);
        __m512i activations = _mm512_set1_epi32(four);
        UNROLL for (int tile = 0; tile < tiles; tile++) {
          sums[row][tile] = (ints)_mm512_dpbusd_epi32((__m512i)sums[row][tile],
                                                      unpacked[half][tile], activations);
        }
      }
    }
  }
}

#endif
