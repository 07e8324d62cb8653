// 2 to the power of a vector.
#ifndef NIBBLE_EXPONENTIAL_H
#define NIBBLE_EXPONENTIAL_H

#include "vector.h"

// Minimax polynomials of 2^x for |x| <= 1/2 by the Remez exchange with relative error, rounded to
// f32. Degree 6 is off by 1.9e-9 before rounding, a fraction of f32's 6e-8; degree 4 by 2.6e-6, a
// fraction of bf16's 2e-3.
static const float exponential_degree_6[] = {
    0x1.000000p+0f, 0x1.62e430p-1f,  0x1.ebfbdap-3f,  0x1.c6aed4p-5f,
    0x1.3b2dbcp-7f, 0x1.5f456ap-10f, 0x1.41d334p-13f,
};
static const float exponential_degree_4[] = {
    0x1.ffffe8p-1f, 0x1.62e0dcp-1f, 0x1.ec06dap-3f, 0x1.ca1440p-5f, 0x1.3997d6p-7f,
};

INLINE floats polynomial(floats x, const float *coefficients, int degree) {
  floats value = broadcast(coefficients[degree]);
  UNROLL for (int i = degree - 1; i >= 0; i--) {
    value = multiply_add(value, x, broadcast(coefficients[i]));
  }
  return value;
}

/// 2^(x + correction) for x up to 128; the correction is what a rounding of x has lost. Zero below
/// 2^-127, infinity from 2^127.5 on, NaN of NaN.
///
/// x is split into an integer and a fraction of at most 1/2 by adding a number so large that its
/// last place is 1. That number ends in 127, the bias of the exponent, so that the sum's low bits,
/// moved up, are the float 2^integer: all zero for -127, an infinity for 128.
INLINE floats power_of_two(floats x, floats correction, const float *coefficients, int degree) {
  const floats last_place_one = broadcast(0x1.8p23f + 127);
  x = greater(broadcast(-127), x);  // in this order, NaN goes through
  floats shifted = x + last_place_one;
  floats fraction = (x - (shifted - last_place_one)) + correction;
  return polynomial(fraction, coefficients, degree) * (floats)((uints)shifted << 23);
}

/// 1 + e^x. The product x · log2 e is rounded; what it lost is put back, since for large x it
/// matters. From 89 up e^x is infinite, from -88 down it makes no difference to 1.
INLINE floats one_plus_exponential(floats x) {
  const floats high = broadcast(0x1.715476p0f), low = broadcast(0x1.4ae0cp-26f);
  floats bounded = greater(broadcast(-88), lesser(broadcast(89), x));
  floats exponent = bounded * high;
  floats lost = multiply_add(bounded, low, multiply_add(bounded, high, -exponent));
  return 1 + power_of_two(exponent, lost, exponential_degree_6, 6);
}

#endif
