// Quantizing the input of a 4-bit layer and its low-rank down-projection, which read it together.
#ifndef NIBBLE_VECTOR_QUANTIZE_H
#define NIBBLE_VECTOR_QUANTIZE_H

#include "../quantized.h"
#include "vector.h"

#ifndef BRANCH_ROWS
#error "define BRANCH_ROWS and BRANCH_VECTORS, the tile of the down-projection"
#endif

enum {
  /// A lane for each row of a tile, in whole vectors.
  TILE_LANES = (NIBBLE_TILE_ROWS + WIDTH - 1) / WIDTH * WIDTH,
};

typedef int8_t codes __attribute__((vector_size(WIDTH)));
typedef codes codes_in_memory __attribute__((aligned(1), may_alias));

/// The nearest bf16 as an f32; a NaN stays some NaN.
INLINE floats round_to_bf16(floats x) {
  uints bits = (uints)x;
  floats rounded = (floats)((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
  return choose(x != x, x, rounded);
}

/// x' of one row's group; returns the largest magnitude of each lane, as an integer: so they
/// compare with NaN above all.
INLINE ints smooth_group(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                         const void *x, nibble_float type, size_t start, float smoothed[GROUP]) {
  ints largest = {};
  UNROLL for (int i = 0; i < GROUP; i += WIDTH) {
    floats value = load(x, type, start + i);
    if (nibble_is_shifted(kind)) value = round_to_bf16(value + broadcast(nibble_gelu_shift));
    if (layer->smooth) value /= load(layer->smooth, NIBBLE_F32, start + i);
    value = round_to_bf16(value);
    store(smoothed, NIBBLE_F32, i, value);
    largest = __builtin_elementwise_max(largest, (ints)value & 0x7fffffff);
  }
  return largest;
}

/// Asks for one row's group after the next. Rows lie far apart and are read a piece at a time,
/// where the processor does not look ahead; beyond a row's end it is a hint without effect.
INLINE void prefetch_group(const void *x, nibble_float type, size_t start) {
  enum { LINE_BYTES = 64 };
  uintptr_t ahead = (uintptr_t)nibble_row(x, type, start + 2 * GROUP, 1);
  UNROLL for (size_t i = 0; i < GROUP * nibble_float_bytes(type); i += LINE_BYTES) {
    __builtin_prefetch((const void *)(ahead + i));
  }
}

/// What the groups of a tile's rows are divided by, as nibble_group_scale.
typedef struct tile_scales {
  float stored[TILE_LANES], divisors[TILE_LANES], reciprocals[TILE_LANES];
} tile_scales;

/// nibble_scale_of_group, lane by lane.
INLINE void scale_groups(ints absmax, nibble_activation_codes kind, tile_scales *scales,
                         size_t first) {
  const floats infinity = broadcast(__builtin_inff());
  bool is_4_bit = nibble_is_4_bit(kind);
  floats s = is_4_bit ? (floats)absmax * (kind == NIBBLE_CODES_S4 ? 1.0f / 7 : 1.0f / 15)
                      : (floats)absmax / nibble_greatest_of_8_bits(kind);
  floats reciprocal = 1 / s, stored = is_4_bit ? round_to_bf16(s) : s;
  // Infinite for zero and for the smallest subnormal numbers.
  ints is_zero = reciprocal == infinity, is_finite = absmax < (ints)infinity;
  stored = choose(is_finite, choose(is_zero, (floats){}, stored), broadcast(__builtin_nanf("")));
  reciprocal = choose(is_finite & ~is_zero, reciprocal, (floats){});
  store(scales->stored, NIBBLE_F32, first, stored);
  store(scales->divisors, NIBBLE_F32, first, s);
  store(scales->reciprocals, NIBBLE_F32, first, reciprocal);
}

/// The codes of one row's group; returns the sums of their lanes.
INLINE ints write_codes(const float smoothed[GROUP], nibble_activation_codes kind, float divisor,
                        float reciprocal, int8_t *target) {
  ints sum = {};
  if (reciprocal == 0) {
    memset(target, 0, GROUP);
    return sum;
  }
  UNROLL for (int i = 0; i < GROUP; i += WIDTH) {
    floats value = load(smoothed, NIBBLE_F32, i);
    value = nibble_is_4_bit(kind) ? value * broadcast(reciprocal) : value / broadcast(divisor);
    ints code = __builtin_convertvector(__builtin_elementwise_roundeven(value), ints);
    if (kind == NIBBLE_CODES_U4) code = __builtin_elementwise_max(code, (ints){});
    *(codes_in_memory *)(target + i) = __builtin_convertvector(code, codes);
    sum += code;
  }
  return sum;
}

/// One group of up to a tile's rows: first all their maxima, then all their scales, then all their
/// codes, so that no row waits for its own.
INLINE void quantize_group(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                           const void *x, nibble_float type, size_t x_stride, size_t start,
                           int rows, const nibble_quantized_rows *to, size_t index) {
  float smoothed[NIBBLE_TILE_ROWS][GROUP];
  ints lanes[TILE_LANES] = {};
  tile_scales scales;
  for (int row = 0; row < rows; row++) {
    const void *source = nibble_row(x, type, x_stride, row);
    prefetch_group(source, type, start);
    lanes[row] = smooth_group(layer, kind, source, type, start, smoothed[row]);
  }
  UNROLL for (int i = 0; i < TILE_LANES; i += WIDTH) {
    scale_groups(fold_rows(lanes + i, GREATEST), kind, &scales, i);
  }
  for (int row = 0; row < rows; row++) {
    to->scales[index + row] = scales.stored[row];
    lanes[row] = write_codes(smoothed[row], kind, scales.divisors[row], scales.reciprocals[row],
                             to->codes + (index + row) * GROUP);
  }
  int32_t starts[TILE_LANES];
  UNROLL for (int i = 0; i < TILE_LANES; i += WIDTH) {
    store(starts, NIBBLE_F32, i, (floats)(-8 * fold_rows(lanes + i, SUM)));
  }
  memcpy(to->starts + index, starts, rows * sizeof *starts);
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

/// Adds one group's products of a tile's rows with the down-projection.
INLINE void project_group(const nibble_quantized_layer *layer, const void *x, nibble_float type,
                          size_t x_stride, size_t start, int rows, float *branch) {
  size_t rank = layer->rank, r = 0;
  const uint16_t *down = layer->down + start * rank;
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
  float values[BRANCH_ROWS][GROUP];
  UNROLL for (int row = 0; row < rows; row++) {
    const void *source = nibble_row(x, type, x_stride, row);
    UNROLL for (int i = 0; i < GROUP; i += WIDTH) {
      store(values[row], NIBBLE_F32, i, load(source, type, start + i));
    }
  }
  for (; r + BRANCH_VECTORS * WIDTH <= rank; r += BRANCH_VECTORS * WIDTH) {
    add_branch(values, down + 2 * r, rank, branch + r, rows, BRANCH_VECTORS);
  }
  for (; r < rank; r += WIDTH) add_branch(values, down + 2 * r, rank, branch + r, rows, 1);
}

/// Rows of one tile, group by group, so that what is read of a row is projected while it is near.
INLINE void quantize_tile(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                          const void *x, nibble_float type, size_t x_stride,
                          const nibble_quantized_rows *to, size_t first, int rows) {
  size_t rank = layer->rank;
  float *branch = to->branch + first * rank;
  if (rank > 0) memset(branch, 0, rows * rank * sizeof *branch);
  for (size_t group = 0; group < layer->in / GROUP; group++) {
    size_t index = nibble_index_of_group(layer->in, first, group), start = group * GROUP;
    quantize_group(layer, kind, x, type, x_stride, start, rows, to, index);
    int row = 0;
    for (; row + BRANCH_ROWS <= rows; row += BRANCH_ROWS) {
      project_group(layer, nibble_row(x, type, x_stride, row), type, x_stride, start, BRANCH_ROWS,
                    branch + row * rank);
    }
    for (; row < rows; row++) {
      project_group(layer, nibble_row(x, type, x_stride, row), type, x_stride, start, 1,
                    branch + row * rank);
    }
  }
}

INLINE void quantize_rows_type(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                               const void *x, nibble_float type, size_t x_stride,
                               const nibble_quantized_rows *to, size_t first, size_t count) {
  for (size_t done = 0; done < count;) {
    size_t left_of_tile = NIBBLE_TILE_ROWS - (first + done) % NIBBLE_TILE_ROWS;
    size_t rows = count - done < left_of_tile ? count - done : left_of_tile;
    quantize_tile(layer, kind, nibble_row(x, type, x_stride, done), type, x_stride, to,
                  first + done, (int)rows);
    done += rows;
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
    case NIBBLE_CODES_S8_PAIRED:
      OF_KIND(NIBBLE_CODES_S8_PAIRED);
  }
#undef OF_KIND
}

#endif
