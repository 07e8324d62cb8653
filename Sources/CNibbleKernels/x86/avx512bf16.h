// Attention and quantization with the bf16 products of AVX-512 BF16, for the table of that set.
#ifndef NIBBLE_AVX512BF16_H
#define NIBBLE_AVX512BF16_H

#include "nibble_kernels.h"

enum { NIBBLE_AVX512BF16_QUERY_BLOCK = 96 };
size_t nibble_avx512bf16_attention_packed_bytes(const nibble_attention_shape *shape);
size_t nibble_avx512bf16_attention_scratch_bytes(const nibble_attention_shape *shape);
void nibble_avx512bf16_attention_pack(const nibble_attention_shape *shape, const void *k,
                                      const void *v, void *packed);
void nibble_avx512bf16_attention_run(const nibble_attention_shape *shape, const void *q,
                                     const void *packed, void *out, size_t first, size_t count,
                                     void *scratch);
void nibble_avx512bf16_quantize_rows(const nibble_quantized_layer *layer,
                                     nibble_activation_codes kind, const void *x,
                                     nibble_float x_type, size_t x_stride,
                                     const nibble_quantized_rows *to, size_t first, size_t count);
void nibble_avx512bf16_quantized_product(const nibble_quantized_layer *layer,
                                         const nibble_quantized_rows *x, size_t first_row,
                                         size_t row_count, size_t first_output, size_t output_count,
                                         const nibble_destination *to);

extern const nibble_paired_product nibble_avx512bf16_paired_product;

#endif
