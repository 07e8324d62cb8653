// The product of 4-bit layers with SDOT, for the table of Arm with dot products.
#ifndef NIBBLE_NEONDOT_H
#define NIBBLE_NEONDOT_H

#include "nibble_kernels.h"

/// SDOT came with Armv8.2; all of Apple's processors that run macOS have it.
bool nibble_has_dot_product(void);

void nibble_neondot_quantized_product(const nibble_quantized_layer *layer,
                                      const nibble_quantized_rows *x, size_t first_row,
                                      size_t row_count, size_t first_output, size_t output_count,
                                      bool gelu, void *y, nibble_float y_type, size_t y_stride,
                                      void *scratch);

#endif
