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

// VPDPBUSD takes the first bytes as unsigned.
#define KEY_OFFSET 128
#define VALUE_OFFSET 0

#include "../vector/int8_attention.h"

INLINE ints nearest(floats x) {
  return (ints)_mm512_cvtps_epi32((__m512)x);
}

INLINE ints add_scores(ints sum, uints keys, uints queries) {
  return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)keys, (__m512i)queries);
}

INLINE ints add_values(ints sum, uints weights, uints values) {
  return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, (__m512i)values);
}

INLINE words narrow(uints first, uints second) {
  return (words)_mm512_packus_epi32((__m512i)first, (__m512i)second);
}

INLINE words multiply_high(words x, words y) {
  return (words)_mm512_mulhi_epu16((__m512i)x, (__m512i)y);
}

INLINE words shift_right(words x, words n) {
  return (words)_mm512_srlv_epi16((__m512i)x, (__m512i)n);
}

const nibble_int8_attention nibble_avx512vnni_int8_attention = {QUERY_BLOCK, packed_bytes,
                                                                scratch_bytes, pack, run};

#pragma clang attribute pop

#endif
