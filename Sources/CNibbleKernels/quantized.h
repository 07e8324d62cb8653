// What every instruction set's quantized product agrees on.
#ifndef NIBBLE_QUANTIZED_COMMON_H
#define NIBBLE_QUANTIZED_COMMON_H

#include "scalar.h"

enum { GROUP = NIBBLE_GROUP, TILE_OUTPUTS = NIBBLE_TILE_OUTPUTS };

/// Makes the outputs of GELU positive, whose least value is -0.17 (SVDQuant's shift; exact in
/// bf16).
static const float nibble_gelu_shift = 0.171875f;

static inline bool nibble_is_shifted(nibble_activation_codes kind) {
  return kind == NIBBLE_CODES_U4 || kind == NIBBLE_CODES_S8_SHIFTED;
}

static inline bool nibble_is_4_bit(nibble_activation_codes kind) {
  return kind == NIBBLE_CODES_S4 || kind == NIBBLE_CODES_U4;
}

/// The greatest magnitude of codes of 8 bits.
static inline float nibble_greatest_of_8_bits(nibble_activation_codes kind) {
  return kind == NIBBLE_CODES_S8_PAIRED ? 112 : 127;
}

/// How the magnitude of a group becomes codes: x' times or divided by `divisor`'s reciprocal.
typedef struct nibble_group_scale {
  float stored;      ///< what a code is multiplied by
  float divisor;     ///< s itself, for 8 bits
  float reciprocal;  ///< 1 / s, for 4 bits; 0 where all codes are 0
} nibble_group_scale;

static inline nibble_group_scale nibble_scale_of_group(float absmax, nibble_activation_codes kind) {
  const float not_a_number = nibble_float_of_bits(0x7fc00000);
  if (nibble_bits_of_float(absmax) >= 0x7f800000) return (nibble_group_scale){not_a_number, 1, 0};
  bool is_4_bit = nibble_is_4_bit(kind);
  float s = is_4_bit ? absmax * (kind == NIBBLE_CODES_S4 ? 1.0f / 7 : 1.0f / 15)
                     : absmax / nibble_greatest_of_8_bits(kind);
  float reciprocal = 1 / s;
  // Infinite for zero and for the smallest subnormal numbers.
  if (nibble_bits_of_float(reciprocal) == 0x7f800000) return (nibble_group_scale){0, 1, 0};
  float stored = is_4_bit ? nibble_float_of_bf16(nibble_bf16_of_float(s)) : s;
  return (nibble_group_scale){stored, s, reciprocal};
}

#endif
