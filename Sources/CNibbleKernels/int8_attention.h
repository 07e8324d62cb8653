// What every instruction set's attention in bytes agrees on; the formulas are in
// nibble_int8_attention.h.
#ifndef NIBBLE_INT8_ATTENTION_COMMON_H
#define NIBBLE_INT8_ATTENTION_COMMON_H

#include "scalar.h"

enum {
  KEY_BLOCK = NIBBLE_KEY_BLOCK,
  /// Binary places of the exponents of weights, and the bits above them: 2^-31 is far below a byte.
  EXPONENT_PLACES = 11,
  EXPONENT_WHOLE_BITS = 16 - EXPONENT_PLACES,
};

/// 65280 · 2^-f by powers of f, signs alternating: a minimax polynomial, off by 7.5e-5 relatively,
/// a fiftieth of a byte's last place. 255 and the dither together stay below 2^16.
static const uint16_t nibble_weight_polynomial[] = {65275, 45110, 15019, 2547};

/// Spread evenly over 0 ... 255 along any run of keys, and other ones 64 keys on: 159 / 256 is near
/// the golden section.
static inline uint32_t nibble_dither(size_t key) {
  return (uint32_t)key * 159 & 255;
}

/// How distances of integer scores from their maximum become exponents.
typedef struct nibble_exponent_factor {
  uint32_t multiplier;  ///< g
  uint32_t right;       ///< bits that a distance is first moved down
  uint32_t left;        ///< or up, then `right` is 0
} nibble_exponent_factor;

/// Of a factor f s, which is not negative.
static inline nibble_exponent_factor nibble_exponent_factor_of(float factor) {
  uint32_t bits = nibble_bits_of_float(factor * (1 << EXPONENT_PLACES));
  uint32_t multiplier = ((bits & 0x7fffff) | 0x800000) >> 8, biased = bits >> 23;
  if (biased >= 127) {
    uint32_t left = biased - 126;
    return (nibble_exponent_factor){multiplier, 0, left < 16 ? left : 16};
  }
  uint32_t right = 126 - biased;
  return (nibble_exponent_factor){multiplier, right < 31 ? right : 31, 0};
}

/// A scale of bytes and what to multiply by to get them.
typedef struct nibble_byte_scale {
  float scale, inverse;
} nibble_byte_scale;

/// Of the bits of the largest magnitude.
static inline nibble_byte_scale nibble_byte_scale_of(uint32_t largest) {
  if (largest >= 0x7f800000) return (nibble_byte_scale){nibble_float_of_bits(0x7fc00000), 0};
  float inverse = 127 / nibble_float_of_bits(largest);
  if (nibble_bits_of_float(inverse) == 0x7f800000) return (nibble_byte_scale){0, 0};
  return (nibble_byte_scale){nibble_float_of_bits(largest) / 127, inverse};
}

#endif
