#include <float.h>
#include <math.h>

#include "../scalar.h"
#include "plain.h"
#include "sums.h"

#pragma STDC FP_CONTRACT OFF

// One query and one key at a time, with the running maximum and sum of M. Milakov and N.
// Gimelshein, "Online normalizer calculation for softmax" (2018), algorithm 3. Packed: the keys,
// then the values, as f32 rows.

static size_t packed_bytes(const nibble_attention_shape *shape) {
  return 2 * shape->keys * shape->head_dim * sizeof(float);
}

/// A query and its unnormalized output.
static size_t scratch_bytes(const nibble_attention_shape *shape) {
  return 2 * shape->head_dim * sizeof(float);
}

static void pack(const nibble_attention_shape *shape, const void *k, const void *v, void *packed,
                 nibble_float type) {
  size_t head_dim = shape->head_dim;
  float *keys = packed, *values = keys + shape->keys * head_dim;
  for (size_t key = 0; key < shape->keys; key++) {
    const void *k_row = nibble_row(k, type, shape->k_stride, key);
    const void *v_row = nibble_row(v, type, shape->v_stride, key);
    nibble_plain_convert(k_row, type, keys + key * head_dim, NIBBLE_F32, head_dim);
    nibble_plain_convert(v_row, type, values + key * head_dim, NIBBLE_F32, head_dim);
  }
}

static float dot(const float *x, const float *y, size_t n) {
  float partial[NIBBLE_PARTIAL_SUMS] = {0};
  for (size_t i = 0; i < n; i++) partial[i % NIBBLE_PARTIAL_SUMS] += x[i] * y[i];
  return nibble_add_partial_sums(partial);
}

/// Leaves the softmax-weighted sum of the values in `output` and returns what to divide it by.
static float attend(const nibble_attention_shape *shape, const float *q, const float *packed,
                    const float *bias, size_t visible_keys, float *output) {
  size_t head_dim = shape->head_dim;
  const float *keys = packed, *values = packed + shape->keys * head_dim;
  float maximum = -FLT_MAX, sum = 0;
  for (size_t i = 0; i < head_dim; i++) output[i] = 0;
  for (size_t key = 0; key < visible_keys; key++) {
    float score = shape->scale * dot(q, keys + key * head_dim, head_dim) + (bias ? bias[key] : 0);
    if (score > maximum) {
      float correction = expf(maximum - score);
      sum *= correction;
      for (size_t i = 0; i < head_dim; i++) output[i] *= correction;
      maximum = score;
    }
    float weight = expf(score - maximum);
    sum += weight;
    for (size_t i = 0; i < head_dim; i++) output[i] += weight * values[key * head_dim + i];
  }
  return sum;
}

static void run(const nibble_attention_shape *shape, const void *q, const void *packed, void *out,
                size_t first, size_t count, void *scratch, nibble_float type) {
  size_t head_dim = shape->head_dim;
  float *query_row = scratch, *output = query_row + head_dim;
  for (size_t query = first; query < first + count; query++) {
    nibble_plain_convert(nibble_row(q, type, shape->q_stride, query), type, query_row, NIBBLE_F32,
                         head_dim);
    const float *bias =
        shape->bias ? shape->bias + (ptrdiff_t)query * shape->bias_row_stride : NULL;
    size_t visible_keys = shape->causal && query < shape->keys ? query + 1 : shape->keys;
    float sum = attend(shape, query_row, packed, bias, visible_keys, output);
    void *target = nibble_mutable_row(out, type, shape->out_stride, query);
    for (size_t i = 0; i < head_dim; i++) nibble_store(target, type, i, output[i] / sum);
  }
}

#include "../attention_types.h"

#define ATTENTION(type) \
  { 1, packed_bytes, scratch_bytes, pack_##type, run_##type }

const nibble_kernels nibble_plain_table = {
    .isa = NIBBLE_ISA_PLAIN,
    .name = "plain",
    .attention_f32 = ATTENTION(f32),
    .attention_bf16 = ATTENTION(bf16),
    .attention_int8 = &nibble_plain_int8_attention,
    .convert = nibble_plain_convert,
    .layer_norm = nibble_plain_layer_norm,
    .rms_norm = nibble_plain_rms_norm,
    .rms_norm_rotary = nibble_plain_rms_norm_rotary,
    .gated_add = nibble_plain_gated_add,
    .multiply = nibble_plain_multiply,
    .silu = nibble_plain_silu,
    .column_moments = nibble_plain_column_moments,
    .scale_offset = nibble_plain_scale_offset,
    .row_product = nibble_plain_row_product,
    .quantize_rows = nibble_plain_quantize_rows,
    .quantized_product = nibble_plain_quantized_product,
    .quantized_row_product = nibble_plain_quantized_row_product,
    .column_maxima = nibble_plain_column_maxima,
    .solver = {nibble_plain_subtract_product, nibble_plain_round_weights,
               nibble_plain_subtract_rounded, nibble_plain_round_with_feedback,
               nibble_plain_transposed_product, nibble_plain_squared_distance},
};
