// 4-bit layers and attention in bytes with AVX-VNNI: VPDPBUSD of AVX-512 VNNI on half as wide
// vectors, for the processors that have it but no AVX-512 (Intel's for laptops and desktops since
// the 12th generation).
#if defined(__x86_64__)

#include "avxvnni.h"

#pragma clang attribute push(__attribute__((target("avx2,avxvnni,fma,f16c"))), apply_to = function)

// Of 16 registers, 12 hold exact sums; the scaled ones wait in memory while a group is worked.
#define WIDTH 8
#define PRODUCT_ROWS 6
#define PRODUCT_TILES 1

#include "half_step.h"

INLINE __m256i add_products(__m256i sum, __m256i weights, __m256i activations) {
  return _mm256_dpbusd_avx_epi32(sum, weights, activations);
}

INLINE void sum_group(const group_operands *x, ints sums[PRODUCT_ROWS][VECTORS_OF_TILE]) {
  __m256i exact[PRODUCT_ROWS][2];
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int v = 0; v < 2; v++) exact[row][v] = _mm256_set1_epi32(x->starts[row]);
  }
  UNROLL for (int step = 0; step < GROUP / 8; step++) {
    UNROLL for (int half = 0; half < 2; half++) {
      // Loads stay in their half: moved ahead of it, they would push sums out of their registers.
      __asm__ volatile("" ::: "memory");
      add_half_step(x, step, half, exact);
    }
  }
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int v = 0; v < 2; v++) sums[row][v] = (ints)exact[row][v];
  }
}

void nibble_avxvnni_quantized_product(const nibble_quantized_layer *layer,
                                      const nibble_quantized_rows *x, size_t first_row,
                                      size_t row_count, size_t first_output, size_t output_count,
                                      const nibble_destination *to) {
  quantized_product(layer, x, first_row, row_count, first_output, output_count, to);
}

// VPDPBUSD takes the first bytes as unsigned.
#define KEY_OFFSET 128
#define VALUE_OFFSET 0

#include "../vector/int8_attention.h"

INLINE ints nearest(floats x) {
  return (ints)_mm256_cvtps_epi32((__m256)x);
}

INLINE ints add_scores(ints sum, uints keys, uints queries) {
  return (ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)keys, (__m256i)queries);
}

INLINE ints add_values(ints sum, uints weights, uints values) {
  return (ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)weights, (__m256i)values);
}

INLINE words narrow(uints first, uints second) {
  return (words)_mm256_packus_epi32((__m256i)first, (__m256i)second);
}

INLINE words multiply_high(words x, words y) {
  return (words)_mm256_mulhi_epu16((__m256i)x, (__m256i)y);
}

/// AVX2 has it for 32 bits only.
INLINE words shift_right(words x, words n) {
  enum { ODD = 0xaa };
  const __m256i zero = _mm256_setzero_si256();
  __m256i even = _mm256_srlv_epi32(_mm256_blend_epi16((__m256i)x, zero, ODD),
                                   _mm256_blend_epi16((__m256i)n, zero, ODD));
  __m256i odd = (__m256i)((uints)x >> 16);
  odd = _mm256_srlv_epi32(odd, (__m256i)((uints)n >> 16));
  return (words)_mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), ODD);
}

const nibble_int8_attention nibble_avxvnni_int8_attention = {QUERY_BLOCK, packed_bytes,
                                                             scratch_bytes, pack, run};

#pragma clang attribute pop

#endif
