// The two types of attention's arrays, for a source that defines `pack` and `run` with the type as
// their last argument.
#ifndef NIBBLE_ATTENTION_TYPES_H
#define NIBBLE_ATTENTION_TYPES_H

#include "include/nibble_kernels.h"

static void pack_f32(const nibble_attention_shape *shape, const void *k, const void *v,
                     void *packed) {
  pack(shape, k, v, packed, NIBBLE_F32);
}

static void pack_bf16(const nibble_attention_shape *shape, const void *k, const void *v,
                      void *packed) {
  pack(shape, k, v, packed, NIBBLE_BF16);
}

static void run_f32(const nibble_attention_shape *shape, const void *q, const void *packed,
                    void *out, size_t first, size_t count, void *scratch) {
  run(shape, q, packed, out, first, count, scratch, NIBBLE_F32);
}

static void run_bf16(const nibble_attention_shape *shape, const void *q, const void *packed,
                     void *out, size_t first, size_t count, void *scratch) {
  run(shape, q, packed, out, first, count, scratch, NIBBLE_BF16);
}

#endif
