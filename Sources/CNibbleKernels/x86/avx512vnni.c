// 4-bit layers, without BF16, and attention in bytes.
#if defined(__x86_64__)

#include "avx512vnni.h"

#include <immintrin.h>

#pragma clang attribute push(                                                          \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c"))), \
    apply_to = function)

#define WIDTH 16

#include "avx512_pairs.h"

void nibble_avx512vnni_quantized_product(const nibble_quantized_layer *layer,
                                         const nibble_quantized_rows *x, size_t first_row,
                                         size_t row_count, size_t first_output, size_t output_count,
                                         const nibble_destination *to) {
  quantized_product(layer, x, first_row, row_count, first_output, output_count, to);
}

const nibble_paired_product nibble_avx512vnni_paired_product = {pair_scratch_bytes,
                                                                fill_pair_starts, paired_product};

#include "../vector/int8_attention.h"

INLINE ints nearest(floats x) {
  return (ints)_mm512_cvtps_epi32((__m512)x);
}

INLINE ints dot_product(ints sum, uints unsigned_bytes, uints signed_bytes) {
  return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)unsigned_bytes, (__m512i)signed_bytes);
}

/// T >> n, for 32 keys.
INLINE __m512i weights_of_words(__m512i exponent, __m512i dither) {
  __m512i fraction = _mm512_slli_epi16(exponent, EXPONENT_WHOLE_BITS);
  __m512i value = _mm512_set1_epi16((short)nibble_weight_polynomial[3]);
  UNROLL for (int i = 2; i >= 0; i--) {
    __m512i coefficient = _mm512_set1_epi16((short)nibble_weight_polynomial[i]);
    value = _mm512_sub_epi16(coefficient, _mm512_mulhi_epu16(fraction, value));
  }
  value = _mm512_srlv_epi16(value, _mm512_srli_epi16(exponent, EXPONENT_PLACES));
  return _mm512_add_epi16(value, dither);
}

INLINE uints weights_of_panel(const int32_t *scores, const panel_factors *factors,
                              const uint16_t *dither) {
  __m128i right = _mm_cvtsi32_si128((int)factors->exponent.right);
  __m512i multiplier = _mm512_set1_epi16((short)factors->exponent.multiplier);
  __m512i weights[2], distances[4];
  UNROLL for (int i = 0; i < 4; i++) {
    __m512i score = _mm512_loadu_si512(scores + i * WIDTH);
    distances[i] = _mm512_srl_epi32(_mm512_sub_epi32((__m512i)factors->maximum, score), right);
  }
  UNROLL for (int i = 0; i < 2; i++) {
    __m512i words = _mm512_packus_epi32(distances[2 * i], distances[2 * i + 1]);
    weights[i] = weights_of_words(_mm512_mulhi_epu16(words, multiplier),
                                  _mm512_loadu_si512(dither + i * 2 * WIDTH));
  }
  // The upper halves of the words: even bytes from the first vector, odd ones from the second.
  const __m512i odd = _mm512_set1_epi16((short)0xff00);
  return (uints)_mm512_srli_epi16(weights[0], 8) | ((uints)weights[1] & (uints)odd);
}

const nibble_int8_attention nibble_avx512vnni_int8_attention = {QUERY_BLOCK, packed_bytes,
                                                                scratch_bytes, pack, run};

#pragma clang attribute pop

#endif
