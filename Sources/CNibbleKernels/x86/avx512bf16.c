// Attention and low-rank down-projection of bf16 arrays in VDPBF16PS, which multiplies pairs of
// bf16 and adds both products to an f32. It takes subnormal numbers for zero.
#if defined(__x86_64__)

#include "avx512bf16.h"

#include <immintrin.h>

#pragma clang attribute push(                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,fma,f16c"))), \
    apply_to = function)

#define WIDTH 16
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define STEP_ELEMENTS 2
#define EXPONENTIAL exponential_degree_4
#define DEGREE 4

#include "../vector/exponential.h"

INLINE floats accumulate(floats sum, uint32_t step, const uint32_t *panel) {
  __m512bh pairs = (__m512bh)_mm512_loadu_si512(panel);
  return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)step), pairs);
}

INLINE floats store_weights(float *row, size_t key, floats weights) {
  __m256bh rounded = _mm512_cvtneps_pbh((__m512)weights);
  _mm256_storeu_si256((__m256i *)((uint8_t *)row + 2 * key), (__m256i)rounded);
  return (floats)_mm512_cvtpbh_ps(rounded);
}

#include "../vector/attention.h"

#define BRANCH_ROWS 6
#define BRANCH_VECTORS 2
#define MULTIPLY_ADD_PAIRS accumulate_pairs

INLINE floats accumulate_pairs(floats sum, uint32_t pair, uints pairs) {
  __m512bh inputs = (__m512bh)_mm512_set1_epi32((int)pair);
  return (floats)_mm512_dpbf16_ps((__m512)sum, inputs, (__m512bh)pairs);
}

INLINE void store_rounded(void *y, floats value) {
  _mm256_storeu_si256((__m256i *)y, (__m256i)_mm512_cvtneps_pbh((__m512)value));
}

#include "../vector/quantize.h"
#include "avx512_pairs.h"

_Static_assert(QUERY_BLOCK == NIBBLE_AVX512BF16_QUERY_BLOCK, "the table must tell the query block");

size_t nibble_avx512bf16_attention_packed_bytes(const nibble_attention_shape *shape) {
  return packed_bytes(shape);
}

size_t nibble_avx512bf16_attention_scratch_bytes(const nibble_attention_shape *shape) {
  return scratch_bytes(shape);
}

void nibble_avx512bf16_attention_pack(const nibble_attention_shape *shape, const void *k,
                                      const void *v, void *packed) {
  pack(shape, k, v, packed, NIBBLE_BF16);
}

void nibble_avx512bf16_attention_run(const nibble_attention_shape *shape, const void *q,
                                     const void *packed, void *out, size_t first, size_t count,
                                     void *scratch) {
  run(shape, q, packed, out, first, count, scratch, NIBBLE_BF16);
}

void nibble_avx512bf16_quantize_rows(const nibble_quantized_layer *layer,
                                     nibble_activation_codes kind, const void *x,
                                     nibble_float x_type, size_t x_stride,
                                     const nibble_quantized_rows *to, size_t first, size_t count) {
  quantize_rows(layer, kind, x, x_type, x_stride, to, first, count);
}

void nibble_avx512bf16_quantized_product(const nibble_quantized_layer *layer,
                                         const nibble_quantized_rows *x, size_t first_row,
                                         size_t row_count, size_t first_output, size_t output_count,
                                         const nibble_destination *to) {
  quantized_product(layer, x, first_row, row_count, first_output, output_count, to);
}

const nibble_paired_product nibble_avx512bf16_paired_product = {pair_scratch_bytes,
                                                                fill_pair_starts, paired_product};

#pragma clang attribute pop

#endif
