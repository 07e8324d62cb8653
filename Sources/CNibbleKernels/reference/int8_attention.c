#include "../int8_attention.h"

#include <math.h>

#include "plain.h"

#pragma STDC FP_CONTRACT OFF

// One query at a time; nibble_int8_attention.h has the formulas. Packed, for each block of keys:
// its floats, which are the means [head_dim], the values' scales [head_dim] and the keys' scale,
// then codes of keys [KEY_BLOCK][head_dim] and of values.

enum { QUERY_BLOCK = 1 };

typedef struct key_block {
  size_t keys;
  float *mean, *value_scales, *key_scale;
  int8_t *keys_codes, *values_codes;
} key_block;

static size_t least(size_t x, size_t y) {
  return x < y ? x : y;
}

static size_t block_bytes(const nibble_int8_attention_shape *shape) {
  return (2 * shape->head_dim + 1) * sizeof(float) + 2 * KEY_BLOCK * shape->head_dim;
}

static size_t packed_bytes(const nibble_int8_attention_shape *shape) {
  return (shape->keys + KEY_BLOCK - 1) / KEY_BLOCK * block_bytes(shape);
}

/// Blocks end in whole floats, since KEY_BLOCK is a multiple of 4.
static key_block block_of(const nibble_int8_attention_shape *shape, void *packed, size_t block) {
  float *mean = (float *)((uint8_t *)packed + block * block_bytes(shape));
  int8_t *codes = (int8_t *)(mean + 2 * shape->head_dim + 1);
  return (key_block){
      .keys = least(shape->keys - block * KEY_BLOCK, KEY_BLOCK),
      .mean = mean,
      .value_scales = mean + shape->head_dim,
      .key_scale = mean + 2 * shape->head_dim,
      .keys_codes = codes,
      .values_codes = codes + KEY_BLOCK * shape->head_dim,
  };
}

/// What one query works with; packing takes the place of the scores for a block's rows.
typedef struct workspace {
  int32_t *scores;   // [KEY_BLOCK]
  float *row;        // [head_dim]
  float *output;     // [head_dim]
  int8_t *codes;     // [head_dim]
  uint8_t *weights;  // [KEY_BLOCK]
} workspace;

static size_t scratch_bytes(const nibble_int8_attention_shape *shape) {
  size_t packing = KEY_BLOCK * shape->head_dim * sizeof(float);
  size_t running = KEY_BLOCK * sizeof(int32_t) + 2 * shape->head_dim * sizeof(float) +
                   shape->head_dim + KEY_BLOCK;
  return packing > running ? packing : running;
}

static workspace lay_out(const nibble_int8_attention_shape *shape, void *scratch) {
  workspace space;
  space.scores = scratch;
  space.row = (float *)(space.scores + KEY_BLOCK);
  space.output = space.row + shape->head_dim;
  space.codes = (int8_t *)(space.output + shape->head_dim);
  space.weights = (uint8_t *)(space.codes + shape->head_dim);
  return space;
}

static void widen_row(const uint16_t *x, const nibble_head_norm *norm, size_t token,
                      size_t head_dim, float *row) {
  nibble_plain_convert(x, NIBBLE_BF16, row, NIBBLE_F32, head_dim);
  if (!norm) return;
  size_t angles = token * (head_dim / 2);
  nibble_plain_rms_norm_rotary(row, NIBBLE_F32, head_dim, 1, 1, head_dim,
                               norm->gains[token < norm->boundary ? 0 : 1], norm->epsilon,
                               norm->cosine + angles, norm->sine + angles);
}

static uint32_t larger_magnitude(uint32_t largest, float x) {
  uint32_t magnitude = nibble_bits_of_float(x) & 0x7fffffff;
  return magnitude > largest ? magnitude : largest;
}

/// Zero where there is no scale, since what is not a number has no integer.
static int8_t code_of(float x, nibble_byte_scale scale) {
  return scale.inverse == 0 ? 0 : (int8_t)rintf(x * scale.inverse);
}

static void pack_keys(const nibble_int8_attention_shape *shape, const uint16_t *k, size_t first,
                      const key_block *block, float *rows) {
  size_t n = shape->head_dim;
  for (size_t key = 0; key < block->keys; key++) {
    widen_row(k + (first + key) * shape->k_stride, shape->k_norm, first + key, n, rows + key * n);
  }
  uint32_t largest = 0;
  for (size_t i = 0; i < n; i++) {
    float sum = 0;
    for (size_t key = 0; key < block->keys; key++) sum += rows[key * n + i];
    block->mean[i] = sum / (float)block->keys;
    for (size_t key = 0; key < block->keys; key++) {
      largest = larger_magnitude(largest, rows[key * n + i] - block->mean[i]);
    }
  }
  nibble_byte_scale scale = nibble_byte_scale_of(largest);
  *block->key_scale = scale.scale;
  for (size_t key = 0; key < block->keys; key++) {
    for (size_t i = 0; i < n; i++) {
      block->keys_codes[key * n + i] = code_of(rows[key * n + i] - block->mean[i], scale);
    }
  }
}

static void pack_values(const nibble_int8_attention_shape *shape, const uint16_t *v, size_t first,
                        const key_block *block) {
  for (size_t i = 0; i < shape->head_dim; i++) {
    const uint16_t *column = v + first * shape->v_stride + i;
    uint32_t largest = 0;
    for (size_t key = 0; key < block->keys; key++) {
      largest = larger_magnitude(largest, nibble_float_of_bf16(column[key * shape->v_stride]));
    }
    nibble_byte_scale scale = nibble_byte_scale_of(largest);
    block->value_scales[i] = scale.scale;
    for (size_t key = 0; key < block->keys; key++) {
      float value = nibble_float_of_bf16(column[key * shape->v_stride]);
      block->values_codes[key * shape->head_dim + i] = code_of(value, scale);
    }
  }
}

static void pack(const nibble_int8_attention_shape *shape, const uint16_t *k, const uint16_t *v,
                 void *packed, size_t block, void *scratch) {
  key_block to = block_of(shape, packed, block);
  pack_keys(shape, k, block * KEY_BLOCK, &to, scratch);
  pack_values(shape, v, block * KEY_BLOCK, &to);
}

static uint8_t weight_of(uint32_t distance, const nibble_exponent_factor *factor, size_t key) {
  uint32_t most = 65536 >> factor->left;
  distance >>= factor->right;
  if (factor->left) distance = (distance < most ? distance : most) << factor->left;
  if (distance > 65535) distance = 65535;
  uint32_t exponent = distance * factor->multiplier >> 16;
  uint32_t fraction = exponent << EXPONENT_WHOLE_BITS & 65535;
  uint32_t value = nibble_weight_polynomial[3];
  for (int i = 2; i >= 0; i--) value = nibble_weight_polynomial[i] - (fraction * value >> 16);
  return (uint8_t)(((value >> (exponent >> EXPONENT_PLACES)) + nibble_dither(key)) >> 8);
}

/// The scores of a block, and their maximum.
static int32_t score_block(const nibble_int8_attention_shape *shape, const workspace *space,
                           const key_block *block) {
  int32_t maximum = INT32_MIN;
  for (size_t key = 0; key < block->keys; key++) {
    const int8_t *codes = block->keys_codes + key * shape->head_dim;
    int32_t sum = 0;
    for (size_t i = 0; i < shape->head_dim; i++) sum += space->codes[i] * codes[i];
    space->scores[key] = sum;
    if (sum > maximum) maximum = sum;
  }
  return maximum;
}

/// Scores become weights; returns their sum.
static int32_t soften_block(const workspace *space, const key_block *block, int32_t maximum,
                            float factor) {
  nibble_exponent_factor exponent = nibble_exponent_factor_of(factor);
  int32_t sum = 0;
  for (size_t key = 0; key < block->keys; key++) {
    space->weights[key] = weight_of((uint32_t)(maximum - space->scores[key]), &exponent, key);
    sum += space->weights[key];
  }
  return sum;
}

static void add_values(const nibble_int8_attention_shape *shape, const workspace *space,
                       const key_block *block, float rescale) {
  for (size_t i = 0; i < shape->head_dim; i++) {
    int32_t sum = 0;
    for (size_t key = 0; key < block->keys; key++) {
      sum += space->weights[key] * block->values_codes[key * shape->head_dim + i];
    }
    space->output[i] = fmaf((float)sum, block->value_scales[i] * rescale, space->output[i]);
  }
}

/// Leaves the weighted sum of the values in `output` and returns what to divide it by.
static float attend(const nibble_int8_attention_shape *shape, void *packed,
                    const workspace *space) {
  const float log2_scale = shape->scale * 0x1.715476p0f;
  size_t n = shape->head_dim;
  uint32_t largest = 0;
  for (size_t i = 0; i < n; i++) largest = larger_magnitude(largest, space->row[i]);
  nibble_byte_scale scale = nibble_byte_scale_of(largest);
  for (size_t i = 0; i < n; i++) space->codes[i] = code_of(space->row[i], scale);
  for (size_t i = 0; i < n; i++) space->output[i] = 0;
  float reference = -INFINITY, sum = 0;
  for (size_t key = 0; key < shape->keys; key += KEY_BLOCK) {
    key_block block = block_of(shape, packed, key / KEY_BLOCK);
    float product = 0, factor = scale.scale * log2_scale * *block.key_scale;
    for (size_t i = 0; i < n; i++) product = fmaf(space->row[i], block.mean[i], product);
    int32_t maximum = score_block(shape, space, &block);
    float weights = (float)soften_block(space, &block, maximum, factor);
    float exponent = fmaf((float)maximum, factor, product * log2_scale);
    if (!(exponent <= reference + 64)) {
      float correction = exp2f(reference - exponent);
      sum *= correction;
      for (size_t i = 0; i < n; i++) space->output[i] *= correction;
      reference = exponent;
    }
    float rescale = exp2f(exponent - reference);
    sum = fmaf(rescale, weights, sum);
    add_values(shape, space, &block, rescale);
  }
  return sum;
}

static void run(const nibble_int8_attention_shape *shape, const uint16_t *q, const void *packed,
                uint16_t *out, size_t first, size_t count, void *scratch) {
  workspace space = lay_out(shape, scratch);
  for (size_t query = first; query < first + count; query++) {
    widen_row(q + query * shape->q_stride, shape->q_norm, query, shape->head_dim, space.row);
    float inverse = 1 / attend(shape, (void *)packed, &space);
    uint16_t *target = out + query * shape->out_stride;
    for (size_t i = 0; i < shape->head_dim; i++) {
      nibble_store(target, NIBBLE_BF16, i, space.output[i] * inverse);
    }
  }
}

const nibble_int8_attention nibble_plain_int8_attention = {QUERY_BLOCK, packed_bytes, scratch_bytes,
                                                           pack, run};
