// Attention in f32 multiply-adds, for f32 arrays and for bf16 arrays, which are widened as they are
// packed.
#ifndef NIBBLE_VECTOR_ATTENTION_F32_H
#define NIBBLE_VECTOR_ATTENTION_F32_H

#define STEP_ELEMENTS 1
#define EXPONENTIAL exponential_degree_6
#define DEGREE 6

#include "exponential.h"

INLINE floats accumulate(floats sum, uint32_t step, const uint32_t *panel) {
  return multiply_add(broadcast(nibble_float_of_bits(step)), load(panel, NIBBLE_F32, 0), sum);
}

INLINE floats store_weights(float *row, size_t key, floats weights) {
  store(row, NIBBLE_F32, key, weights);
  return weights;
}

#include "attention.h"

// After `pack` and `run` are there.
#include "../attention_types.h"

#define ATTENTION_F32 \
  { QUERY_BLOCK, packed_bytes, scratch_bytes, pack_f32, run_f32 }
#define ATTENTION_BF16 \
  { QUERY_BLOCK, packed_bytes, scratch_bytes, pack_bf16, run_bf16 }

#endif
