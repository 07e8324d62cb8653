// One row times 4-bit weights with zero points (W4A16), at the speed of reading them.
#ifndef NIBBLE_VECTOR_QUANTIZED_ROW_PRODUCT_H
#define NIBBLE_VECTOR_QUANTIZED_ROW_PRODUCT_H

#include "../quantized.h"
#include "vector.h"

/// Products of one group with WIDTH outputs, whose bytes start at `bytes`: each 32-bit lane holds
/// one output's codes of eight inputs, low halves first.
INLINE floats product_of_group(const float *x, const uint8_t *bytes, floats scale, floats zero) {
  floats sums[2] = {};
  for (size_t i = 0; i < GROUP; i += 8, bytes += 64) {
    uints packed = (uints)load(bytes, NIBBLE_F32, 0);
    UNROLL for (int half = 0; half < 2; half++) {
      UNROLL for (int input = 0; input < 4; input++) {
        uints code = packed >> (8 * input + 4 * half) & 15;
        floats weight = multiply_add(__builtin_convertvector((ints)code, floats), scale, zero);
        sums[half] = multiply_add(weight, broadcast(x[i + 4 * half + input]), sums[half]);
      }
    }
  }
  return sums[0] + sums[1];
}

static void quantized_row_product(const float *x, const uint8_t *codes, const uint16_t *scales,
                                  const uint16_t *zeros, const float *bias, float *y, size_t in,
                                  size_t first, size_t count) {
  size_t groups = in / GROUP;
  EACH_VECTOR(count, i, lanes, {
    size_t output = first + i, tile = output / TILE_OUTPUTS, lane = output % TILE_OUTPUTS;
    floats sum = bias ? load_part(bias, NIBBLE_F32, output, lanes) : (floats){};
    for (size_t group = 0; group < groups; group++) {
      size_t block = tile * groups + group, at = block * TILE_OUTPUTS + lane;
      floats scale = load(scales, NIBBLE_BF16, at), zero = load(zeros, NIBBLE_BF16, at);
      sum += product_of_group(x + group * GROUP, codes + block * 512 + 4 * lane, scale, zero);
    }
    store_part(y, NIBBLE_F32, output, lanes, sum);
  })
}

#endif
