// The product of 4-bit layers and attention in bytes with VPDPBUSD, for the tables of AVX-512.
#ifndef NIBBLE_AVX512VNNI_H
#define NIBBLE_AVX512VNNI_H

#include "nibble_kernels.h"

extern const nibble_int8_attention nibble_avx512vnni_int8_attention;

void nibble_avx512vnni_quantized_product(const nibble_quantized_layer *layer,
                                         const nibble_quantized_rows *x, size_t first_row,
                                         size_t row_count, size_t first_output, size_t output_count,
                                         const nibble_destination *to);

extern const nibble_paired_product nibble_avx512vnni_paired_product;

#endif
