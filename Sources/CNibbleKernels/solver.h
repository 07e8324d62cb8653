// What every instruction set's rounding of weights agrees on.
#ifndef NIBBLE_SOLVER_COMMON_H
#define NIBBLE_SOLVER_COMMON_H

#include "quantized.h"

/// Rows whose terms are added up in one go: longer sums would lose digits.
enum { SUMMED_ROWS = 128 };

/// The scale of a group of weights from its largest magnitude: nothing to round needs none, and a
/// file must not hold 0.
static inline uint16_t nibble_weight_scale(float absmax) {
  uint16_t scale = nibble_bf16_of_float(absmax / 7);
  return scale == 0 ? nibble_bf16_of_float(1) : scale;
}

#endif
