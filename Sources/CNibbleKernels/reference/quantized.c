// 4-bit layers, one number at a time.
#include "../quantized.h"

#include <math.h>

#include "plain.h"

#pragma STDC FP_CONTRACT OFF

static float round_to_bf16(float x) {
  return nibble_float_of_bf16(nibble_bf16_of_float(x));
}

/// x' of one group: shifted, divided, rounded after each; returns the largest magnitude, or NaN.
static float smooth_group(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                          const void *x, nibble_float type, size_t first, float smoothed[GROUP]) {
  uint32_t largest = 0;
  for (size_t i = 0; i < GROUP; i++) {
    float value = nibble_load(x, type, first + i);
    if (nibble_is_shifted(kind)) value = round_to_bf16(value + nibble_gelu_shift);
    smoothed[i] = round_to_bf16(layer->smooth ? value / layer->smooth[first + i] : value);
    // Magnitudes compare as integers, NaN above all.
    uint32_t magnitude = nibble_bits_of_float(smoothed[i]) & 0x7fffffff;
    if (magnitude > largest) largest = magnitude;
  }
  return nibble_float_of_bits(largest);
}

static int8_t code_of(float x, nibble_group_scale scale, nibble_activation_codes kind) {
  if (scale.reciprocal == 0) return 0;
  // The group's largest magnitude becomes 7, 15 or 127 up to rounding: nothing lies above.
  float code = nearbyintf(nibble_is_4_bit(kind) ? x * scale.reciprocal : x / scale.divisor);
  return (int8_t)(kind == NIBBLE_CODES_U4 && code < 0 ? 0 : code);
}

static void quantize_row(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                         const void *x, nibble_float type, const nibble_quantized_rows *to,
                         size_t row) {
  for (size_t group = 0; group < layer->in / GROUP; group++) {
    float smoothed[GROUP];
    float absmax = smooth_group(layer, kind, x, type, group * GROUP, smoothed);
    nibble_group_scale scale = nibble_scale_of_group(absmax, kind);
    size_t index = nibble_index_of_group(layer->in, row, group);
    int32_t sum = 0;
    for (size_t i = 0; i < GROUP; i++) {
      int8_t code = code_of(smoothed[i], scale, kind);
      to->codes[index * GROUP + i] = code;
      sum += code;
    }
    to->scales[index] = scale.stored;
    to->starts[index] = -8 * sum;
  }
}

void nibble_plain_quantize_rows(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                                const void *x, nibble_float x_type, size_t x_stride,
                                const nibble_quantized_rows *to, size_t first, size_t count) {
  for (size_t row = first; row < first + count; row++) {
    const void *source = nibble_row(x, x_type, x_stride, row - first);
    quantize_row(layer, kind, source, x_type, to, row);
    for (size_t r = 0; r < layer->rank; r++) {
      // Pieces of a group: short sums lose less.
      float sum = 0;
      for (size_t group = 0; group < layer->in; group += GROUP) {
        float piece = 0;
        for (size_t i = group; i < group + GROUP; i++) {
          float weight = nibble_float_of_bf16(layer->down[(i / 2 * layer->rank + r) * 2 + i % 2]);
          piece += nibble_load(source, x_type, i) * weight;
        }
        sum += piece;
      }
      to->branch[row * layer->rank + r] = sum;
    }
  }
}

/// Codes of one row and group times the unsigned nibbles of one output.
static int32_t group_sum(const int8_t *activations, int32_t start, const uint8_t *weights) {
  int32_t sum = start;
  for (size_t i = 0; i < GROUP; i++) {
    uint8_t byte = weights[i / 8 * 64 + i % 4];
    sum += activations[i] * (i % 8 < 4 ? byte & 15 : byte >> 4);
  }
  return sum;
}

static float gelu_of(float x) {
  const float slope = 0.7978845608f;  // √(2/π)
  return 0.5f * x * (1 + tanhf(slope * (x + 0.044715f * x * x * x)));
}

static void merge(const nibble_destination *to, size_t row, size_t output, size_t place,
                  float value) {
  void *y = nibble_mutable_row(to->y, to->type, to->stride, row);
  float so_far = to->merge == NIBBLE_REPLACE ? 0 : nibble_load(y, to->type, place);
  if (to->merge == NIBBLE_ADD) value = so_far + (to->gate ? to->gate[output] : 1) * value;
  if (to->merge == NIBBLE_MULTIPLY) value *= so_far;
  nibble_store(y, to->type, place, value);
}

void nibble_plain_quantized_product(const nibble_quantized_layer *layer,
                                    const nibble_quantized_rows *x, size_t first_row,
                                    size_t row_count, size_t first_output, size_t output_count,
                                    const nibble_destination *to) {
  size_t groups = layer->in / GROUP;
  for (size_t row = first_row; row < first_row + row_count; row++) {
    for (size_t output = first_output; output < first_output + output_count; output++) {
      size_t tile = output / TILE_OUTPUTS, lane = output % TILE_OUTPUTS;
      float sum = 0;
      for (size_t group = 0; group < groups; group++) {
        size_t index = nibble_index_of_group(layer->in, row, group);
        size_t block = tile * groups + group;
        int32_t exact = group_sum(x->codes + index * GROUP, x->starts[index],
                                  layer->codes + block * 512 + 4 * lane);
        float scale = nibble_float_of_bf16(layer->scales[block * TILE_OUTPUTS + lane]);
        sum += (float)exact * (x->scales[index] * scale);
      }
      for (size_t r = 0; r < layer->rank; r++) {
        uint16_t weight = layer->up[(tile * layer->rank + r) * TILE_OUTPUTS + lane];
        sum += x->branch[row * layer->rank + r] * nibble_float_of_bf16(weight);
      }
      if (layer->bias) sum += layer->bias[output];
      merge(to, row, output, output - first_output, to->gelu ? gelu_of(sum) : sum);
    }
  }
}

void nibble_plain_quantized_row_product(const float *x, const uint8_t *codes,
                                        const uint16_t *scales, const uint16_t *zeros,
                                        const float *bias, float *y, size_t in, size_t first,
                                        size_t count) {
  size_t groups = in / GROUP;
  for (size_t output = first; output < first + count; output++) {
    size_t tile = output / TILE_OUTPUTS, lane = output % TILE_OUTPUTS;
    float sum = 0;
    for (size_t group = 0; group < groups; group++) {
      size_t block = tile * groups + group;
      float scale = nibble_float_of_bf16(scales[block * TILE_OUTPUTS + lane]);
      float zero = nibble_float_of_bf16(zeros[block * TILE_OUTPUTS + lane]);
      float piece = 0;
      for (size_t i = 0; i < GROUP; i++) {
        uint8_t byte = codes[block * 512 + i / 8 * 64 + 4 * lane + i % 4];
        float weight = (float)(i % 8 < 4 ? byte & 15 : byte >> 4) * scale + zero;
        piece += weight * x[group * GROUP + i];
      }
      sum += piece;
    }
    y[output] = sum + (bias ? bias[output] : 0);
  }
}

/// The nearest bf16. Going through f32 would round twice, but not if that is rounded to odd: cut
/// off, with the last bit set where something was lost.
static float bf16_of_double(double x) {
  float nearest = (float)x;
  if ((double)nearest == x || isnan(x) || isinf(nearest)) return round_to_bf16(nearest);
  uint32_t bits = nibble_bits_of_float(nearest);
  if (fabs((double)nearest) > fabs(x)) bits--;
  return round_to_bf16(nibble_float_of_bits(bits | 1));
}

/// Rows whose sums are held at once: each output's weights are unpacked once for so many.
enum { BF16_ROWS = 64 };

/// The codes of one output and group, without the offset of 8.
static void unpack_group(const uint8_t *packed, int8_t codes[GROUP]) {
  for (size_t i = 0; i < GROUP; i++) {
    uint8_t byte = packed[i / 8 * 64 + i % 4];
    codes[i] = (int8_t)((i % 8 < 4 ? byte & 15 : byte >> 4) - 8);
  }
}

static int32_t dot_of_codes(const int8_t *restrict a, const int8_t *restrict b) {
  int32_t sum = 0;
  for (size_t i = 0; i < GROUP; i++) sum += a[i] * b[i];
  return sum;
}

/// Groups of some rows and one output in bf16: each group's sum, its scale and every fused
/// multiply-add are rounded, in this order. A product of two bf16 numbers and its sum with a third
/// are exact in f64, or so far apart that only the direction of what is lost counts.
static void sums_in_bf16(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                         size_t first_row, size_t row_count, size_t output, float *sums) {
  size_t groups = layer->in / GROUP, tile = output / TILE_OUTPUTS, lane = output % TILE_OUTPUTS;
  for (size_t i = 0; i < row_count; i++) sums[i] = 0;
  for (size_t group = 0; group < groups; group++) {
    size_t block = tile * groups + group;
    float weight_scale = nibble_float_of_bf16(layer->scales[block * TILE_OUTPUTS + lane]);
    int8_t weights[GROUP];
    unpack_group(layer->codes + block * 512 + 4 * lane, weights);
    for (size_t i = 0; i < row_count; i++) {
      size_t index = nibble_index_of_group(layer->in, first_row + i, group);
      float exact = (float)dot_of_codes(x->codes + index * GROUP, weights);
      float scale = round_to_bf16(x->scales[index] * weight_scale);
      sums[i] = bf16_of_double((double)round_to_bf16(exact) * scale + sums[i]);
    }
  }
}

/// Bias, low-rank branch and GELU of one sum, rounded after each.
static float finish_in_bf16(const nibble_quantized_layer *layer, const float *branch, size_t output,
                            bool gelu, float sum) {
  size_t tile = output / TILE_OUTPUTS, lane = output % TILE_OUTPUTS;
  if (layer->bias) sum = round_to_bf16(sum + layer->bias[output]);
  for (size_t r = 0; r < layer->rank; r++) {
    uint16_t up = layer->up[(tile * layer->rank + r) * TILE_OUTPUTS + lane];
    sum += round_to_bf16(branch[r]) * nibble_float_of_bf16(up);
  }
  sum = round_to_bf16(sum);
  return gelu ? round_to_bf16(gelu_of(sum)) : sum;
}

void nibble_product_in_bf16(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                            size_t first_row, size_t row_count, size_t first_output,
                            size_t output_count, const nibble_destination *to) {
  size_t end = first_row + row_count;
  for (size_t first = first_row; first < end; first += BF16_ROWS) {
    size_t count = end - first < BF16_ROWS ? end - first : BF16_ROWS;
    for (size_t output = first_output; output < first_output + output_count; output++) {
      float sums[BF16_ROWS];
      sums_in_bf16(layer, x, first, count, output, sums);
      for (size_t i = 0; i < count; i++) {
        const float *branch = x->branch + (first + i) * layer->rank;
        merge(to, first + i, output, output - first_output,
              finish_in_bf16(layer, branch, output, to->gelu, sums[i]));
      }
    }
  }
}

void nibble_row_product_in_bf16(const float *x, const uint8_t *codes, const uint16_t *scales,
                                const uint16_t *zeros, const float *bias, float *y, size_t in,
                                size_t first, size_t count) {
  size_t groups = in / GROUP;
  for (size_t output = first; output < first + count; output++) {
    size_t tile = output / TILE_OUTPUTS, lane = output % TILE_OUTPUTS;
    double sum = 0;
    for (size_t group = 0; group < groups; group++) {
      size_t block = tile * groups + group;
      double scale = nibble_float_of_bf16(scales[block * TILE_OUTPUTS + lane]);
      double zero = nibble_float_of_bf16(zeros[block * TILE_OUTPUTS + lane]);
      int8_t group_codes[GROUP];
      unpack_group(codes + block * 512 + 4 * lane, group_codes);
      for (size_t i = 0; i < GROUP; i++) {
        float weight = bf16_of_double((group_codes[i] + 8) * scale + zero);
        sum += round_to_bf16(weight * round_to_bf16(x[group * GROUP + i]));
      }
    }
    float rounded = bf16_of_double(sum);
    y[output] = bias ? round_to_bf16(rounded + bias[output]) : rounded;
  }
}
