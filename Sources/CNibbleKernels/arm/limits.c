// What Arm can multiply and add at most, as in x86/limits.c.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "../tables.h"
#include "products.h"

#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#define UNROLL _Pragma("clang loop unroll(full)")

enum { CHAINS = 16 };

bool nibble_has_dot_product(void) {
#if defined(__linux__)
  const unsigned long dot_product = 1 << 20;  // HWCAP_ASIMDDP of the kernel's asm/hwcap.h
  return (getauxval(AT_HWCAP) & dot_product) != 0;
#elif defined(__APPLE__)
  return true;
#else
  return false;
#endif
}

bool nibble_has_int8_matrix_product(void) {
#if defined(__linux__)
  const unsigned long matrix_product = 1 << 13;  // HWCAP2_I8MM of the same
  return (getauxval(AT_HWCAP2) & matrix_product) != 0;
#elif defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_I8MM", &has, &size, NULL, 0) == 0 && has != 0;
#else
  return false;
#endif
}

static uint64_t neon_f32(uint64_t iterations) {
  float32x4_t x = vdupq_n_f32(0), sums[CHAINS] = {};
  __asm__("" : "+w"(x));
  for (uint64_t i = 0; i < iterations; i++) {
    UNROLL for (int chain = 0; chain < CHAINS; chain++) {
      sums[chain] = vfmaq_f32(sums[chain], x, x);
      __asm__ volatile("" : "+w"(sums[chain]));
    }
  }
  return iterations * CHAINS * 4;
}

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

static uint64_t neon_int8(uint64_t iterations) {
  int8x16_t x = vdupq_n_s8(0);
  int32x4_t sums[CHAINS] = {};
  __asm__("" : "+w"(x));
  for (uint64_t i = 0; i < iterations; i++) {
    UNROLL for (int chain = 0; chain < CHAINS; chain++) {
      sums[chain] = vdotq_s32(sums[chain], x, x);
      __asm__ volatile("" : "+w"(sums[chain]));
    }
  }
  return iterations * CHAINS * 16;
}

#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("i8mm"))), apply_to = function)

static uint64_t neon_int8_matrix(uint64_t iterations) {
  int8x16_t x = vdupq_n_s8(0);
  int32x4_t sums[CHAINS] = {};
  __asm__("" : "+w"(x));
  for (uint64_t i = 0; i < iterations; i++) {
    UNROLL for (int chain = 0; chain < CHAINS; chain++) {
      sums[chain] = vmmlaq_s32(sums[chain], x, x);
      __asm__ volatile("" : "+w"(sums[chain]));
    }
  }
  return iterations * CHAINS * 32;
}

#pragma clang attribute pop

uint64_t nibble_neon_limit(nibble_limit limit, uint64_t iterations) {
  return limit == NIBBLE_LIMIT_F32 ? neon_f32(iterations) : 0;
}

uint64_t nibble_neondot_limit(nibble_limit limit, uint64_t iterations) {
  return limit == NIBBLE_LIMIT_INT8 ? neon_int8(iterations) : nibble_neon_limit(limit, iterations);
}

uint64_t nibble_neoni8mm_limit(nibble_limit limit, uint64_t iterations) {
  if (limit == NIBBLE_LIMIT_INT8) return neon_int8_matrix(iterations);
  return nibble_neon_limit(limit, iterations);
}

#endif
