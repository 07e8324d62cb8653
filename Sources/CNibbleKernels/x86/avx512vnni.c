// The product of 4-bit layers for AVX-512 without BF16.
#if defined(__x86_64__)

#include "avx512vnni.h"

#include <immintrin.h>

#pragma clang attribute push(                                                          \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c"))), \
    apply_to = function)

#define WIDTH 16

#include "avx512_quantized.h"

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
