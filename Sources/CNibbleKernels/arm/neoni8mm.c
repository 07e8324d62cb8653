// 4-bit layers with SMMLA: two rows of eight signed bytes times two columns of eight, four sums at
// once. The unsigned nibbles are signed bytes as they are.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "products.h"

#pragma clang attribute push(__attribute__((target("i8mm"))), apply_to = function)

// Of 32 registers, 16 hold exact sums, each of two rows and two outputs.
#define WIDTH 4
#define PRODUCT_ROWS 4
#define PRODUCT_TILES 1

#include "../vector/group_by_group.h"

INLINE void sum_group(const group_operands *x, ints sums[PRODUCT_ROWS][VECTORS_OF_TILE]) {
  enum { PAIRS = PRODUCT_ROWS / 2 };
  int32x4_t exact[PAIRS][8] = {};
  UNROLL for (int step = 0; step < GROUP / 8; step++) {
    int8x16_t activations[PAIRS];
    UNROLL for (int pair = 0; pair < PAIRS; pair++) {
      const int8_t *two = x->codes + 2 * pair * GROUP + step * 8;
      activations[pair] = vcombine_s8(vld1_s8(two), vld1_s8(two + GROUP));
    }
    UNROLL for (int v = 0; v < 4; v++) {
      // Inputs 0 ... 3 and 4 ... 7 of an output, brought together.
      uint8x16_t packed = vld1q_u8(x->weights + step * 64 + v * 16);
      int32x4_t low = vreinterpretq_s32_u8(vandq_u8(packed, vdupq_n_u8(15)));
      int32x4_t high = vreinterpretq_s32_u8(vshrq_n_u8(packed, 4));
      int8x16_t outputs[2] = {vreinterpretq_s8_s32(vzip1q_s32(low, high)),
                              vreinterpretq_s8_s32(vzip2q_s32(low, high))};
      UNROLL for (int pair = 0; pair < PAIRS; pair++) {
        UNROLL for (int i = 0; i < 2; i++) {
          exact[pair][2 * v + i] =
              vmmlaq_s32(exact[pair][2 * v + i], activations[pair], outputs[i]);
        }
      }
    }
  }
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    UNROLL for (int v = 0; v < 4; v++) {
      int64x2_t first = vreinterpretq_s64_s32(exact[row / 2][2 * v]);
      int64x2_t second = vreinterpretq_s64_s32(exact[row / 2][2 * v + 1]);
      int64x2_t sum = row % 2 == 0 ? vzip1q_s64(first, second) : vzip2q_s64(first, second);
      sums[row][v] = (ints)vaddq_s32(vreinterpretq_s32_s64(sum), vdupq_n_s32(x->starts[row]));
    }
  }
}

void nibble_neoni8mm_quantized_product(const nibble_quantized_layer *layer,
                                       const nibble_quantized_rows *x, size_t first_row,
                                       size_t row_count, size_t first_output, size_t output_count,
                                       const nibble_destination *to) {
  quantized_product(layer, x, first_row, row_count, first_output, output_count, to);
}

#pragma clang attribute pop

#endif
