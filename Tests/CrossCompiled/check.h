// What the tests of all kernels share: the two sets that are compared, and what becomes of it.
#ifndef NIBBLE_TEST_CHECK_H
#define NIBBLE_TEST_CHECK_H

#include "memory.h"

extern const nibble_kernels *plain, *tested;
extern int passed, failed;

/// Values within `bound` (of what their sums and products lose) and the rounding to the type.
void check(const char *what, size_t n, array actual, array expected, double bound);
void expect(const char *what, size_t n, bool good);

void test_attention_kernels(void);
void test_row_kernels(void);
void test_quantized_kernels(void);
void test_solver_kernels(void);

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const double u = 0x1p-24;  // unit roundoff of f32
static inline double roundoff(nibble_float type) {
  return type == NIBBLE_F32 ? u : 0x1p-8;
}

/// What differently ordered sums of n terms may differ by, relative to the sum of their magnitudes.
static inline double sum_roundoff(size_t n) {
  return 2 * ((double)n / 4 + 40) * u;
}

#endif
