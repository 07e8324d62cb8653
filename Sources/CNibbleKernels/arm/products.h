// The products of 4-bit layers with SDOT and SMMLA, and attention in bytes with SDOT, for the
// tables of the sets that have them.
#ifndef NIBBLE_PRODUCTS_H
#define NIBBLE_PRODUCTS_H

#include "nibble_kernels.h"

/// SDOT came with Armv8.2; all of Apple's processors that run macOS have it.
bool nibble_has_dot_product(void);

/// SMMLA is of Armv8.6 (i8mm); Apple has it from the M2 on.
bool nibble_has_int8_matrix_product(void);

void nibble_neondot_quantized_product(const nibble_quantized_layer *layer,
                                      const nibble_quantized_rows *x, size_t first_row,
                                      size_t row_count, size_t first_output, size_t output_count,
                                      const nibble_destination *to);
void nibble_neoni8mm_quantized_product(const nibble_quantized_layer *layer,
                                       const nibble_quantized_rows *x, size_t first_row,
                                       size_t row_count, size_t first_output, size_t output_count,
                                       const nibble_destination *to);

extern const nibble_int8_attention nibble_neondot_int8_attention;

#endif
