// The product of 4-bit layers and the attention in bytes of AVX-VNNI, for the table of that set.
#ifndef NIBBLE_AVXVNNI_H
#define NIBBLE_AVXVNNI_H

#include "nibble_kernels.h"

void nibble_avxvnni_quantized_product(const nibble_quantized_layer *layer,
                                      const nibble_quantized_rows *x, size_t first_row,
                                      size_t row_count, size_t first_output, size_t output_count,
                                      const nibble_destination *to);

extern const nibble_int8_attention nibble_avxvnni_int8_attention;

#endif
