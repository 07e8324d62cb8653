// What x86 can multiply and add at most: loops of independent instructions on registers. The empty
// assembly tells the compiler that registers have changed, so that it neither moves an instruction
// out of a loop nor joins two.
#if defined(__x86_64__)

#include <immintrin.h>

#include "../tables.h"

#define UNROLL _Pragma("clang loop unroll(full)")

/// A loop of `chains` sums; `update` brings `sum` up to date.
#define RUN(type, chains, update)                           \
  type sums[chains] = {};                                   \
  for (uint64_t i = 0; i < iterations; i++) {               \
    UNROLL for (int chain = 0; chain < (chains); chain++) { \
      type sum = sums[chain];                               \
      update;                                               \
      __asm__ volatile("" : "+v"(sum));                     \
      sums[chain] = sum;                                    \
    }                                                       \
  }                                                         \
  return iterations * (chains)

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)

enum {
  /// Sixteen registers hold these and two operands.
  AVX2_CHAINS = 12,
  /// Of 32 registers. A Zen 5 starts two VDPBF16PS at a time and has a sum after six cycles: 12
  /// chains would wait for their sums, and show 7 % less than it can do.
  AVX512_CHAINS = 24,
};

static uint64_t avx2_f32(uint64_t iterations) {
  __m256 x = _mm256_setzero_ps(), y = x;
  __asm__("" : "+v"(x), "+v"(y));
  RUN(__m256, AVX2_CHAINS, sum = _mm256_fmadd_ps(x, y, sum)) * 8;
}

/// Without VNNI it takes three instructions: byte products added in pairs to 16 bits, pairs of
/// those to 32, and the sum.
static uint64_t avx2_int8(uint64_t iterations) {
  __m256i x = _mm256_setzero_si256(), y = x, one = _mm256_set1_epi16(1);
  RUN(__m256i, AVX2_CHAINS,
      __asm__ volatile(""
                       : "+v"(x), "+v"(y));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), one))) *
      32;
}

uint64_t nibble_avx2_limit(nibble_limit limit, uint64_t iterations) {
  if (limit == NIBBLE_LIMIT_BF16) return 0;
  return limit == NIBBLE_LIMIT_INT8 ? avx2_int8(iterations) : avx2_f32(iterations);
}

#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni"))), apply_to = function)

static uint64_t avxvnni_int8(uint64_t iterations) {
  __m256i x = _mm256_setzero_si256(), y = x;
  __asm__("" : "+v"(x), "+v"(y));
  RUN(__m256i, AVX2_CHAINS, sum = _mm256_dpbusd_avx_epi32(sum, x, y)) * 32;
}

uint64_t nibble_avxvnni_limit(nibble_limit limit, uint64_t iterations) {
  return limit == NIBBLE_LIMIT_INT8 ? avxvnni_int8(iterations)
                                    : nibble_avx2_limit(limit, iterations);
}

#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx512f,avx512vnni,avx512bf16"))), \
                             apply_to = function)

static uint64_t avx512_f32(uint64_t iterations) {
  __m512 x = _mm512_setzero_ps(), y = x;
  __asm__("" : "+v"(x), "+v"(y));
  RUN(__m512, AVX512_CHAINS, sum = _mm512_fmadd_ps(x, y, sum)) * 16;
}

static uint64_t avx512_int8(uint64_t iterations) {
  __m512i x = _mm512_setzero_si512(), y = x;
  __asm__("" : "+v"(x), "+v"(y));
  RUN(__m512i, AVX512_CHAINS, sum = _mm512_dpbusd_epi32(sum, x, y)) * 64;
}

static uint64_t avx512_bf16(uint64_t iterations) {
  __m512i x = _mm512_setzero_si512(), y = x;
  __asm__("" : "+v"(x), "+v"(y));
  RUN(__m512, AVX512_CHAINS, sum = _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y)) * 32;
}

#pragma clang attribute pop

uint64_t nibble_avx512_limit(nibble_limit limit, uint64_t iterations) {
  if (limit == NIBBLE_LIMIT_BF16) return 0;
  return limit == NIBBLE_LIMIT_INT8 ? avx512_int8(iterations) : avx512_f32(iterations);
}

uint64_t nibble_avx512bf16_limit(nibble_limit limit, uint64_t iterations) {
  if (limit == NIBBLE_LIMIT_BF16) return avx512_bf16(iterations);
  return nibble_avx512_limit(limit, iterations);
}

#endif
