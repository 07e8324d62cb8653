// 4-bit layers with SDOT: signed bytes times signed, four products added to a 32-bit sum. The
// unsigned nibbles are signed bytes as they are.
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

#pragma clang attribute pop

#endif
