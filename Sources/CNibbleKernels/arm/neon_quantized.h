// The exact sums of Advanced SIMD without dot products: SMLAL multiplies bytes and adds the
// products in 16 bits. The unsigned nibbles are signed bytes as they are; a lane adds 16 products
// of a group, at most 16 · 15 · 127 = 30,480 in magnitude, below 32,768.
#ifndef NIBBLE_NEON_QUANTIZED_H
#define NIBBLE_NEON_QUANTIZED_H

#include <arm_neon.h>

// Of 32 registers, 16 hold 16-bit sums: two for each four outputs and row.
#define PRODUCT_ROWS 2
#define PRODUCT_TILES 1

#include "../vector/group_by_group.h"

INLINE void sum_group(const group_operands *x, ints sums[PRODUCT_ROWS][VECTORS_OF_TILE]) {
  int16x8_t pairs[PRODUCT_ROWS][4][2] = {};
  UNROLL for (int step = 0; step < GROUP / 8; step++) {
    UNROLL for (int half = 0; half < 2; half++) {
      int8x8_t activations[PRODUCT_ROWS];
      UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
        int32_t four;
        memcpy(&four, x->codes + row * GROUP + step * 8 + half * 4, sizeof four);
        activations[row] = vreinterpret_s8_s32(vdup_n_s32(four));
      }
      UNROLL for (int v = 0; v < 4; v++) {
        uint8x16_t packed = vld1q_u8(x->weights + step * 64 + v * 16);
        packed = half == 0 ? vandq_u8(packed, vdupq_n_u8(15)) : vshrq_n_u8(packed, 4);
        int8x16_t unpacked = vreinterpretq_s8_u8(packed);
        UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
          int16x8_t *pair = pairs[row][v];
          pair[0] = vmlal_s8(pair[0], vget_low_s8(unpacked), activations[row]);
          pair[1] = vmlal_s8(pair[1], vget_high_s8(unpacked), activations[row]);
        }
      }
    }
  }
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int v = 0; v < 4; v++) {
      int32x4_t low = vpaddlq_s16(pairs[row][v][0]), high = vpaddlq_s16(pairs[row][v][1]);
      sums[row][v] = (ints)vaddq_s32(vpaddq_s32(low, high), vdupq_n_s32(x->starts[row]));
    }
  }
}

#endif
