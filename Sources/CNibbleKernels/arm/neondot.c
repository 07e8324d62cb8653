// 4-bit layers and attention in bytes with SDOT and UDOT: signed bytes times signed, or unsigned
// times unsigned, four products added to a 32-bit sum. The unsigned nibbles are signed bytes as
// they are.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "products.h"

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

// Of 32 registers, 16 hold exact sums; the scaled ones wait in memory while a group is worked.
#define WIDTH 4
#define PRODUCT_ROWS 4
#define PRODUCT_TILES 1

#include "../vector/group_by_group.h"

INLINE void sum_group(const group_operands *x, ints sums[PRODUCT_ROWS][VECTORS_OF_TILE]) {
  int32x4_t exact[PRODUCT_ROWS][4];
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int v = 0; v < 4; v++) exact[row][v] = vdupq_n_s32(x->starts[row]);
  }
  // A register of a row's codes is two steps of eight inputs; a lane of it four inputs.
  UNROLL for (int pair = 0; pair < GROUP / 16; pair++) {
    int8x16_t activations[PRODUCT_ROWS];
    UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
      activations[row] = vld1q_s8(x->codes + row * GROUP + pair * 16);
    }
    UNROLL for (int v = 0; v < 4; v++) {
      uint8x16_t first = vld1q_u8(x->weights + pair * 128 + v * 16);
      uint8x16_t second = vld1q_u8(x->weights + pair * 128 + 64 + v * 16);
      int8x16_t first_low = vreinterpretq_s8_u8(vandq_u8(first, vdupq_n_u8(15)));
      int8x16_t first_high = vreinterpretq_s8_u8(vshrq_n_u8(first, 4));
      int8x16_t second_low = vreinterpretq_s8_u8(vandq_u8(second, vdupq_n_u8(15)));
      int8x16_t second_high = vreinterpretq_s8_u8(vshrq_n_u8(second, 4));
      UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
        int32x4_t sum = exact[row][v];
        sum = vdotq_laneq_s32(sum, first_low, activations[row], 0);
        sum = vdotq_laneq_s32(sum, first_high, activations[row], 1);
        sum = vdotq_laneq_s32(sum, second_low, activations[row], 2);
        exact[row][v] = vdotq_laneq_s32(sum, second_high, activations[row], 3);
      }
    }
  }
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int v = 0; v < 4; v++) sums[row][v] = (ints)exact[row][v];
  }
}

void nibble_neondot_quantized_product(const nibble_quantized_layer *layer,
                                      const nibble_quantized_rows *x, size_t first_row,
                                      size_t row_count, size_t first_output, size_t output_count,
                                      const nibble_destination *to) {
  quantized_product(layer, x, first_row, row_count, first_output, output_count, to);
}

// Scores are SDOT's; weights are unsigned, so that values must be for UDOT.
#define KEY_OFFSET 0
#define VALUE_OFFSET 128

#include "../vector/int8_attention.h"

INLINE ints nearest(floats x) {
  return (ints)vcvtnq_s32_f32((float32x4_t)x);
}

INLINE ints add_scores(ints sum, uints keys, uints queries) {
  return (ints)vdotq_s32((int32x4_t)sum, (int8x16_t)keys, (int8x16_t)queries);
}

INLINE ints add_values(ints sum, uints weights, uints values) {
  return (ints)vdotq_u32((uint32x4_t)sum, (uint8x16_t)weights, (uint8x16_t)values);
}

INLINE words narrow(uints first, uints second) {
  return (words)vqmovn_high_u32(vqmovn_u32((uint32x4_t)first), (uint32x4_t)second);
}

INLINE words multiply_high(words x, words y) {
  uint32x4_t low = vmull_u16(vget_low_u16((uint16x8_t)x), vget_low_u16((uint16x8_t)y));
  uint32x4_t high = vmull_high_u16((uint16x8_t)x, (uint16x8_t)y);
  return (words)vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
}

INLINE words shift_right(words x, words n) {
  return (words)vshlq_u16((uint16x8_t)x, vnegq_s16((int16x8_t)n));
}

const nibble_int8_attention nibble_neondot_int8_attention = {QUERY_BLOCK, packed_bytes,
                                                             scratch_bytes, pack, run};

#pragma clang attribute pop

#endif
