// The exact sums of AVX-512 VNNI: VPDPBUSD multiplies unsigned bytes with signed ones and adds four
// products to a 32-bit sum.
#ifndef NIBBLE_AVX512_QUANTIZED_H
#define NIBBLE_AVX512_QUANTIZED_H

#include <immintrin.h>

// Of 32 registers, 12 hold exact sums and 12 scaled ones.
#define PRODUCT_ROWS 6
#define PRODUCT_TILES 2

#include "../vector/quantized_product.h"

INLINE void begin_sums(const group_operands *x, ints exact[PRODUCT_ROWS][PRODUCT_VECTORS],
                       int first_row, int rows, int tiles) {
  UNROLL for (int row = first_row; row < first_row + rows; row++) {
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      exact[row][tile] = (ints)_mm512_set1_epi32(x->starts[row]);
    }
  }
}

/// Adds the products of eight inputs.
INLINE void add_step(const group_operands *x, int step, ints exact[PRODUCT_ROWS][PRODUCT_VECTORS],
                     int first_row, int rows, int tiles) {
  const __m512i low_half = _mm512_set1_epi8(15);
  // Loads stay in their step: moved ahead of it, they would push sums out of their registers.
  __asm__ volatile("" ::: "memory");
  __m512i unpacked[2][PRODUCT_TILES];
  UNROLL for (int tile = 0; tile < tiles; tile++) {
    __m512i packed = _mm512_loadu_si512(x->weights + tile * x->tile_bytes + step * 64);
    unpacked[0][tile] = _mm512_and_si512(packed, low_half);
    unpacked[1][tile] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low_half);
  }
  UNROLL for (int half = 0; half < 2; half++) {
    UNROLL for (int row = first_row; row < first_row + rows; row++) {
      int32_t four;
      memcpy(&four, x->codes + row * GROUP + step * 8 + half * 4, sizeof four);
      __m512i activations = _mm512_set1_epi32(four);
      UNROLL for (int tile = 0; tile < tiles; tile++) {
        exact[row][tile] =
            (ints)_mm512_dpbusd_epi32((__m512i)exact[row][tile], unpacked[half][tile], activations);
      }
    }
  }
}

/// Adds the exact sums, scaled.
INLINE void end_sums(const group_operands *x, const ints exact[PRODUCT_ROWS][PRODUCT_VECTORS],
                     floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int first_row, int rows,
                     int tiles) {
  __asm__ volatile("" ::: "memory");
  UNROLL for (int tile = 0; tile < tiles; tile++) {
    floats scale = load(x->weight_scales + tile * x->tile_scales, NIBBLE_BF16, 0);
    UNROLL for (int row = first_row; row < first_row + rows; row++) {
      floats sum = __builtin_convertvector(exact[row][tile], floats);
      sums[row][tile] = multiply_add(sum, scale * broadcast(x->scales[row]), sums[row][tile]);
    }
  }
}

INLINE void prefetch_step(const group_operands *x, int step, int tiles) {
  // Two groups ahead; beyond the last weights it is a hint without effect.
  UNROLL for (int tile = 0; tile < tiles; tile++) {
    __builtin_prefetch(
        (void *)((uintptr_t)x->weights + tile * x->tile_bytes + 2 * GROUP_BYTES + step * 64));
  }
}

INLINE void sum_groups(const product *p, size_t row, size_t tile,
                       floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  // Half of the rows end their group while the other half still multiplies: all at once, scaling
  // would leave the multipliers waiting for the last sums.
  enum { LAST_STEP = GROUP / 8 - 1, HALF = PRODUCT_ROWS / 2 };
  group_operands x = operands_of(p, row, tile, 0);
  ints exact[PRODUCT_ROWS][PRODUCT_VECTORS];
  begin_sums(&x, exact, 0, PRODUCT_ROWS, tiles);
  add_step(&x, 0, exact, 0, PRODUCT_ROWS, tiles);
  for (size_t left = p->layer->in / GROUP;; left--) {
    UNROLL for (int step = 1; step < LAST_STEP; step++) {
      add_step(&x, step, exact, 0, PRODUCT_ROWS, tiles);
      prefetch_step(&x, step, tiles);
    }
    prefetch_step(&x, 0, tiles);
    prefetch_step(&x, LAST_STEP, tiles);
    if (left == 1) break;
    group_operands next = next_group(x);
    UNROLL for (int first = 0; first < PRODUCT_ROWS; first += HALF) {
      add_step(&x, LAST_STEP, exact, first, HALF, tiles);
      end_sums(&x, exact, sums, first, HALF, tiles);
      begin_sums(&next, exact, first, HALF, tiles);
      add_step(&next, 0, exact, first, HALF, tiles);
    }
    x = next;
  }
  add_step(&x, LAST_STEP, exact, 0, PRODUCT_ROWS, tiles);
  end_sums(&x, exact, sums, 0, PRODUCT_ROWS, tiles);
}

#endif
