// 4-bit layers with VPDPBUSD: unsigned bytes times signed, four products added to a 32-bit sum.
#if defined(__x86_64__)

#include "avx512vnni.h"

#include <immintrin.h>

#pragma clang attribute push(                                                          \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c"))), \
    apply_to = function)

// Of 32 registers, 12 hold exact sums and 12 scaled ones.
#define WIDTH 16
#define PRODUCT_ROWS 6
#define PRODUCT_TILES 2

#include "../vector/quantized_product.h"

INLINE void sum_group(const int8_t *codes, const int32_t *starts, const uint8_t *weights,
                      size_t tile_bytes, ints sums[PRODUCT_ROWS][PRODUCT_VECTORS], int rows,
                      int tiles) {
  const __m512i low_half = _mm512_set1_epi8(15);
  UNROLL for (int row = 0; row < rows; row++) {
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      sums[row][tile] = (ints)_mm512_set1_epi32(starts[row]);
    }
  }
  UNROLL for (int step = 0; step < GROUP / 8; step++) {
    __m512i unpacked[2][PRODUCT_TILES];
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      __m512i packed = _mm512_loadu_si512(weights + tile * tile_bytes + step * 64);
      unpacked[0][tile] = _mm512_and_si512(packed, low_half);
      unpacked[1][tile] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low_half);
    }
    UNROLL for (int half = 0; half < 2; half++) {
      UNROLL for (int row = 0; row < rows; row++) {
        int32_t four;
        memcpy(&four, codes + row * GROUP + step * 8 + half * 4, sizeof four);
        __m512i activations = _mm512_set1_epi32(four);
        UNROLL for (int tile = 0; tile < tiles; tile++) {
          sums[row][tile] = (ints)_mm512_dpbusd_epi32((__m512i)sums[row][tile],
                                                      unpacked[half][tile], activations);
        }
      }
    }
  }
}

void nibble_avx512vnni_quantized_product(const nibble_quantized_layer *layer,
                                         const nibble_quantized_rows *x, size_t first_row,
                                         size_t row_count, size_t first_output, size_t output_count,
                                         bool gelu, void *y, nibble_float y_type, size_t y_stride,
                                         void *scratch) {
  quantized_product(layer, x, first_row, row_count, first_output, output_count, gelu, y, y_type,
                    y_stride, scratch);
}

#pragma clang attribute pop

#endif
