#include "nibble_kernels.h"
#include "tables.h"

#if defined(__aarch64__)
#include "arm/products.h"
#endif

#if defined(__x86_64__)

// The compiler's processor probe also asks whether the operating system saves the registers: all of
// AVX and AVX-512 reads as missing where XCR0 says that it does not.
static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

static bool has_avxvnni(void) {
  return has_avx2() && __builtin_cpu_supports("avxvnni");
}

static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512bf16(void) {
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

#endif

bool nibble_isa_supported(nibble_isa isa) {
  switch (isa) {
    case NIBBLE_ISA_PLAIN:
      return true;
#if defined(__x86_64__)
    case NIBBLE_ISA_AVX2:
      return has_avx2();
    case NIBBLE_ISA_AVXVNNI:
      return has_avxvnni();
    case NIBBLE_ISA_AVX512:
      return has_avx512();
    case NIBBLE_ISA_AVX512BF16:
      return has_avx512bf16();
#elif defined(__aarch64__)
    case NIBBLE_ISA_NEON:
      return true;
    case NIBBLE_ISA_NEONDOT:
      return nibble_has_dot_product();
    case NIBBLE_ISA_NEONI8MM:
      return nibble_has_int8_matrix_product();
#endif
    default:
      return false;
  }
}

bool nibble_prefers_pairs(void) {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

typedef uint64_t run_limit(nibble_limit limit, uint64_t iterations);

static const struct {
  const nibble_kernels *table;
  run_limit *limit;
} sets[NIBBLE_ISA_COUNT] = {
    [NIBBLE_ISA_PLAIN] = {&nibble_plain_table, nibble_plain_limit},
#if defined(__x86_64__)
    [NIBBLE_ISA_AVX2] = {&nibble_avx2_table, nibble_avx2_limit},
    [NIBBLE_ISA_AVXVNNI] = {&nibble_avxvnni_table, nibble_avxvnni_limit},
    [NIBBLE_ISA_AVX512] = {&nibble_avx512_table, nibble_avx512_limit},
    [NIBBLE_ISA_AVX512BF16] = {&nibble_avx512bf16_table, nibble_avx512bf16_limit},
#elif defined(__aarch64__)
    [NIBBLE_ISA_NEON] = {&nibble_neon_table, nibble_neon_limit},
    [NIBBLE_ISA_NEONDOT] = {&nibble_neondot_table, nibble_neondot_limit},
    [NIBBLE_ISA_NEONI8MM] = {&nibble_neoni8mm_table, nibble_neoni8mm_limit},
#endif
};

const nibble_kernels *nibble_kernels_for(nibble_isa isa) {
  return nibble_isa_supported(isa) ? sets[isa].table : NULL;
}

uint64_t nibble_run_limit(nibble_isa isa, nibble_limit limit, uint64_t iterations) {
  return nibble_isa_supported(isa) ? sets[isa].limit(limit, iterations) : 0;
}
