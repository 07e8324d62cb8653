// Quantizing the input of a 4-bit layer and its low-rank down-projection, which read it together.
#ifndef NIBBLE_VECTOR_QUANTIZE_H
#define NIBBLE_VECTOR_QUANTIZE_H

#include "../quantized.h"
#include "vector.h"

#ifndef BRANCH_ROWS
#error "define BRANCH_ROWS and BRANCH_VECTORS, the tile of the down-projection"
#endif

enum { GROUP_VECTORS = GROUP / WIDTH };

typedef int8_t codes __attribute__((vector_size(WIDTH)));
typedef codes codes_in_memory __attribute__((aligned(1), may_alias));

/// The nearest bf16 as an f32; a NaN stays some NaN.
INLINE floats round_to_bf16(floats x) {
  uints bits = (uints)x;
  floats rounded = (floats)((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
  return choose(x != x, x, rounded);
}

/// One row's group from its x' on.
INLINE void quantize_group(const floats smoothed[GROUP_VECTORS], nibble_activation_codes kind,
                           const nibble_quantized_rows *to, size_t index) {
  uints largest = {};
  // Magnitudes compare as integers, NaN above all.
  UNROLL for (int i = 0; i < GROUP_VECTORS; i++) {
    largest = __builtin_elementwise_max(largest, (uints)smoothed[i] & 0x7fffffff);
  }
  float absmax = nibble_float_of_bits(__builtin_reduce_max(largest));
  nibble_group_scale scale = nibble_scale_of_group(absmax, kind);
  to->scales[index] = scale.stored;
  int8_t *target = to->codes + index * GROUP;
  if (scale.reciprocal == 0) {
    memset(target, 0, GROUP);
    to->starts[index] = 0;
    return;
  }
  ints sum = {};
  UNROLL for (int i = 0; i < GROUP_VECTORS; i++) {
    floats quotient = nibble_is_4_bit(kind) ? smoothed[i] * broadcast(scale.reciprocal)
                                            : smoothed[i] / broadcast(scale.divisor);
    ints code = __builtin_convertvector(__builtin_elementwise_roundeven(quotient), ints);
    if (kind == NIBBLE_CODES_U4) code = __builtin_elementwise_max(code, (ints){});
    *(codes_in_memory *)(target + i * WIDTH) = __builtin_convertvector(code, codes);
    sum += code;
  }
  to->starts[index] = -8 * __builtin_reduce_add(sum);
}

INLINE void add_to_branch(floats sums[BRANCH_ROWS][BRANCH_VECTORS], size_t rank, float *branch,
                          int rows, int vectors) {
  UNROLL for (int row = 0; row < rows; row++) {
    UNROLL for (int vector = 0; vector < vectors; vector++) {
      float *target = branch + row * rank + vector * WIDTH;
      store(target, NIBBLE_F32, 0, load(target, NIBBLE_F32, 0) + sums[row][vector]);
    }
  }
}

/// Adds the products of one group of `rows` rows with `vectors` vectors of ranks.
INLINE void add_branch(const float (*x)[GROUP], const uint16_t *down, size_t rank, float *branch,
                       int rows, int vectors) {
  floats sums[BRANCH_ROWS][BRANCH_VECTORS] = {};
  for (size_t i = 0; i < GROUP; i += 2, down += 2 * rank) {
    UNROLL for (int vector = 0; vector < vectors; vector++) {
      uints pairs = (uints)load(down + 2 * vector * WIDTH, NIBBLE_F32, 0);
      floats even = (floats)(pairs << 16), odd = (floats)(pairs & 0xffff0000);
      UNROLL for (int row = 0; row < rows; row++) {
        floats sum = multiply_add(even, broadcast(x[row][i]), sums[row][vector]);
        sums[row][vector] = multiply_add(odd, broadcast(x[row][i + 1]), sum);
      }
    }
  }
  add_to_branch(sums, rank, branch, rows, vectors);
}

#ifdef MULTIPLY_ADD_PAIRS
/// The same for rows of bf16, in pairs of inputs as they are.
INLINE void add_branch_of_pairs(const void *x, size_t x_stride, const uint16_t *down, size_t rank,
                                float *branch, int rows, int vectors) {
  floats sums[BRANCH_ROWS][BRANCH_VECTORS] = {};
  for (size_t i = 0; i < GROUP; i += 2, down += 2 * rank) {
    uints pairs[BRANCH_VECTORS];
    UNROLL for (int vector = 0; vector < vectors; vector++) {
      pairs[vector] = (uints)load(down + 2 * vector * WIDTH, NIBBLE_F32, 0);
    }
    UNROLL for (int row = 0; row < rows; row++) {
      uint32_t pair;
      memcpy(&pair, (const uint16_t *)nibble_row(x, NIBBLE_BF16, x_stride, row) + i, sizeof pair);
      UNROLL for (int vector = 0; vector < vectors; vector++) {
        sums[row][vector] = MULTIPLY_ADD_PAIRS(sums[row][vector], pair, pairs[vector]);
      }
    }
  }
  add_to_branch(sums, rank, branch, rows, vectors);
}
#endif

/// One group of up to BRANCH_ROWS rows.
INLINE void quantize_group_of_rows(const nibble_quantized_layer *layer,
                                   nibble_activation_codes kind, const void *x, nibble_float type,
                                   size_t x_stride, const nibble_quantized_rows *to, size_t first,
                                   int rows, size_t group) {
  float values[BRANCH_ROWS][GROUP];
  size_t start = group * GROUP;
  UNROLL for (int row = 0; row < rows; row++) {
    const void *source = nibble_row(x, type, x_stride, row);
    floats smoothed[GROUP_VECTORS];
    UNROLL for (int i = 0; i < GROUP_VECTORS; i++) {
      floats value = load(source, type, start + i * WIDTH);
      store(values[row], NIBBLE_F32, i * WIDTH, value);
      if (nibble_is_shifted(kind)) value = round_to_bf16(value + broadcast(nibble_gelu_shift));
      if (layer->smooth) value /= load(layer->smooth, NIBBLE_F32, start + i * WIDTH);
      smoothed[i] = round_to_bf16(value);
    }
    quantize_group(smoothed, kind, to, nibble_index_of_group(layer->in, first + row, group));
  }
  size_t rank = layer->rank, r = 0;
  const uint16_t *down = layer->down + start * rank;
  float *branch = to->branch + first * rank;
#ifdef MULTIPLY_ADD_PAIRS
  if (type == NIBBLE_BF16) {
    const void *inputs = nibble_row(x, type, start, 1);
    for (; r + BRANCH_VECTORS * WIDTH <= rank; r += BRANCH_VECTORS * WIDTH) {
      add_branch_of_pairs(inputs, x_stride, down + 2 * r, rank, branch + r, rows, BRANCH_VECTORS);
    }
    for (; r < rank; r += WIDTH) {
      add_branch_of_pairs(inputs, x_stride, down + 2 * r, rank, branch + r, rows, 1);
    }
    return;
  }
#endif
  for (; r + BRANCH_VECTORS * WIDTH <= rank; r += BRANCH_VECTORS * WIDTH) {
    add_branch(values, down + 2 * r, rank, branch + r, rows, BRANCH_VECTORS);
  }
  for (; r < rank; r += WIDTH) add_branch(values, down + 2 * r, rank, branch + r, rows, 1);
}

INLINE void quantize_rows_type(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                               const void *x, nibble_float type, size_t x_stride,
                               const nibble_quantized_rows *to, size_t first, size_t count) {
  if (layer->rank > 0) {
    memset(to->branch + first * layer->rank, 0, count * layer->rank * sizeof(float));
  }
  size_t groups = layer->in / GROUP, done = 0;
  for (; done + BRANCH_ROWS <= count; done += BRANCH_ROWS) {
    const void *source = nibble_row(x, type, x_stride, done);
    for (size_t group = 0; group < groups; group++) {
      quantize_group_of_rows(layer, kind, source, type, x_stride, to, first + done, BRANCH_ROWS,
                             group);
    }
  }
  for (; done < count; done++) {
    const void *source = nibble_row(x, type, x_stride, done);
    for (size_t group = 0; group < groups; group++) {
      quantize_group_of_rows(layer, kind, source, type, x_stride, to, first + done, 1, group);
    }
  }
}

static void quantize_rows(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                          const void *x, nibble_float x_type, size_t x_stride,
                          const nibble_quantized_rows *to, size_t first, size_t count) {
#define OF_KIND(KIND)                                                                          \
  FOR_TYPE(x_type, TYPE, quantize_rows_type(layer, KIND, x, TYPE, x_stride, to, first, count)) \
  break
  switch (kind) {
    case NIBBLE_CODES_S4:
      OF_KIND(NIBBLE_CODES_S4);
    case NIBBLE_CODES_U4:
      OF_KIND(NIBBLE_CODES_U4);
    case NIBBLE_CODES_S8:
      OF_KIND(NIBBLE_CODES_S8);
    case NIBBLE_CODES_S8_SHIFTED:
      OF_KIND(NIBBLE_CODES_S8_SHIFTED);
  }
#undef OF_KIND
}

#endif
