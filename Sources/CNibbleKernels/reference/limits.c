#include "../tables.h"

/// A scalar multiply-add per chain and iteration; the empty assembly keeps the compiler from
/// knowing the values, so that it can neither compute the loop beforehand nor make vectors of it.
uint64_t nibble_plain_limit(nibble_limit limit, uint64_t iterations) {
  enum { CHAINS = 8 };
  if (limit == NIBBLE_LIMIT_BF16) return 0;
  if (limit == NIBBLE_LIMIT_INT8) {
    int32_t sum[CHAINS] = {0}, x = 3, y = 5;
    for (uint64_t i = 0; i < iterations; i++) {
      for (int chain = 0; chain < CHAINS; chain++) {
        __asm__ volatile("" : "+r"(x), "+r"(y));
        sum[chain] += (int8_t)x * (int8_t)y;
        __asm__ volatile("" : "+r"(sum[chain]));
      }
    }
  } else {
    float sum[CHAINS] = {0};
    volatile float one = 1;
    float x = one;
    for (uint64_t i = 0; i < iterations; i++) {
      for (int chain = 0; chain < CHAINS; chain++) {
        sum[chain] += sum[chain] * x;
#if defined(__x86_64__)
        __asm__ volatile("" : "+x"(sum[chain]));
#elif defined(__aarch64__)
        __asm__ volatile("" : "+w"(sum[chain]));
#else
        __asm__ volatile("" : "+m"(sum[chain]));
#endif
      }
    }
  }
  return iterations * CHAINS;
}
