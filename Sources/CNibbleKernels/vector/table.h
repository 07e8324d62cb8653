// All of the vector code, and the part of a table that it fills.
#ifndef NIBBLE_VECTOR_TABLE_H
#define NIBBLE_VECTOR_TABLE_H

#include "attention_f32.h"
#include "norms.h"
#include "quantize.h"
#include "quantized_row_product.h"
#include "row_product.h"
#include "rows.h"
#include "solver.h"

#define VECTOR_FUNCTIONS                                                            \
  .attention_f32 = ATTENTION_F32, .convert = convert, .layer_norm = layer_norm,     \
  .rms_norm = rms_norm, .rms_norm_rotary = rms_norm_rotary, .gated_add = gated_add, \
  .multiply = multiply, .silu = silu, .column_moments = column_moments,             \
  .scale_offset = scale_offset, .row_product = row_product,                         \
  .quantized_row_product = quantized_row_product, .column_maxima = column_maxima, .solver = SOLVER

#endif
