// Attention in bytes: how keys and values are packed, and what packing shares with running.
//
// Packed, for each block of keys: the keys' codes + KEY_OFFSET as panels [keys / PANEL][head_dim /
// 4][PANEL][4], then the values' codes + VALUE_OFFSET as panels [head_dim / PANEL][keys /
// 4][PANEL][4]; after all blocks the floats of each: the means [head_dim], the values' scales
// [head_dim], the keys' scale. head_dim is padded to whole panels with zeros, keys to whole panels
// with the block's last key, for which the bytes of the values are zeros then.
#ifndef NIBBLE_VECTOR_INT8_PACKING_H
#define NIBBLE_VECTOR_INT8_PACKING_H

#include "../int8_attention.h"
#include "exponential.h"
#include "head_norm.h"

#if !defined(KEY_OFFSET) || !defined(VALUE_OFFSET)
#error "define KEY_OFFSET and VALUE_OFFSET: 128 where the instruction takes unsigned bytes, or 0"
#endif

enum {
  REGISTERS = WIDTH == 8 ? 16 : 32,  ///< of x86 before AVX-512, and of all others
  TILE_ROWS = REGISTERS == 32 ? 6 : 3,
  TILE_VECTORS = 4,
  PANEL = WIDTH * TILE_VECTORS,
  PANEL_BYTES = 4 * PANEL,  ///< of one step
  QUERY_BLOCK = 48,
  PANELS_OF_BLOCK = KEY_BLOCK / PANEL,
};
_Static_assert(QUERY_BLOCK % TILE_ROWS == 0 && QUERY_BLOCK % WIDTH == 0, "whole tiles and vectors");

typedef int8_t signed_bytes __attribute__((vector_size(WIDTH)));
typedef signed_bytes signed_bytes_in_memory __attribute__((aligned(1), may_alias));

INLINE ints nearest(floats x);

/// The key of a panel whose score is in lane `lane` of vector `vector`, so that narrowing in the
/// instructions' own order, 128 bits by 128 bits, leaves the bytes in the order of the keys.
INLINE size_t key_of_lane(size_t vector, size_t lane) {
  return 16 * (lane / 4) + 8 * (vector % 2) + 2 * (lane % 4) + vector / 2;
}

/// Even keys are narrowed in a panel's first vector of 16-bit words, odd ones in its second.
INLINE size_t key_of_word(size_t word) {
  return 2 * (word % (PANEL / 2)) + word / (PANEL / 2);
}

INLINE size_t round_up(size_t n, size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
INLINE size_t least(size_t x, size_t y) {
  return x < y ? x : y;
}

/// Sizes that follow from a shape.
typedef struct sizes {
  size_t channels;      ///< head_dim, padded
  size_t steps;         ///< of a score
  size_t blocks;        ///< of keys
  size_t block_bytes;   ///< of its codes
  size_t block_floats;  ///< of its means and scales
} sizes;

static sizes sizes_of(const nibble_int8_attention_shape *shape) {
  size_t channels = round_up(shape->head_dim, PANEL);
  return (sizes){
      .channels = channels,
      .steps = (shape->head_dim + 3) / 4,
      .blocks = (shape->keys + KEY_BLOCK - 1) / KEY_BLOCK,
      .block_bytes = 2 * KEY_BLOCK * channels,
      .block_floats = 2 * channels + WIDTH,
  };
}

/// One block of keys and values.
typedef struct key_block {
  size_t keys;
  uint8_t *keys_codes, *values_codes;
  float *mean, *value_scales, *key_scale;
} key_block;

static key_block block_of(const nibble_int8_attention_shape *shape, const sizes *size, void *packed,
                          size_t block) {
  uint8_t *codes = (uint8_t *)packed + block * size->block_bytes;
  float *floats_of_all = (float *)((uint8_t *)packed + size->blocks * size->block_bytes);
  float *mean = floats_of_all + block * size->block_floats;
  return (key_block){
      .keys = least(shape->keys - block * KEY_BLOCK, KEY_BLOCK),
      .keys_codes = codes,
      .values_codes = codes + KEY_BLOCK * size->channels,
      .mean = mean,
      .value_scales = mean + size->channels,
      .key_scale = mean + 2 * size->channels,
  };
}

static size_t packed_bytes(const nibble_int8_attention_shape *shape) {
  sizes size = sizes_of(shape);
  return size.blocks * (size.block_bytes + size.block_floats * sizeof(float));
}

/// What packing a block works with.
typedef struct packing {
  float *rows;     // [KEY_BLOCK][channels]
  float *inverse;  // [channels]
  uint8_t *codes;  // [PANEL][channels]
} packing;

static size_t packing_bytes(const sizes *size) {
  return size->channels * (KEY_BLOCK * sizeof(float) + sizeof(float) + PANEL);
}

static packing lay_out_packing(const sizes *size, void *scratch) {
  packing space;
  space.rows = scratch;
  space.inverse = space.rows + KEY_BLOCK * size->channels;
  space.codes = (uint8_t *)(space.inverse + size->channels);
  return space;
}

/// Asks for a line of what is worked next.
INLINE void prefetch(const void *next) {
  __builtin_prefetch(next, 0, 3);
}

/// Asks for all of row `row`, if there is one. Rows are far apart, and what comes after a row is
/// another head's, so that the processor does not do it by itself.
INLINE void prefetch_row(const uint16_t *x, size_t stride, size_t row, size_t rows,
                         size_t head_dim) {
  if (row >= rows) return;
  for (size_t i = 0; i < head_dim; i += 32) prefetch(x + row * stride + i);
}

/// The fold of WIDTH rows in memory.
INLINE ints fold_of(const int32_t *rows, fold kind) {
  ints x[WIDTH];
  UNROLL for (int i = 0; i < WIDTH; i++) x[i] = (ints)load(rows + i * WIDTH, NIBBLE_F32, 0);
  return fold_rows(x, kind);
}

/// What WIDTH rows are multiplied by to have a mean square of 1.
INLINE floats norm_factors(const uint16_t *const rows[WIDTH], size_t head_dim, float epsilon) {
  ints squares[WIDTH] = {};
  EACH_VECTOR(head_dim, i, count, {
    UNROLL for (int row = 0; row < WIDTH; row++) {
      floats x = load_part(rows[row], NIBBLE_BF16, i, count);
      squares[row] = (ints)multiply_add(x, x, (floats)squares[row]);
    }
  })
  floats sums = (floats)fold_rows(squares, SUM_OF_FLOATS);
  return 1 / __builtin_elementwise_sqrt(sums / (float)head_dim + epsilon);
}

/// WIDTH rows in f32 from row `first` on, normalized and rotated if asked for, with zeros up to
/// `channels`; the row before `end` again where there are no more.
INLINE void widen_rows(const uint16_t *x, size_t stride, const nibble_head_norm *norm, size_t first,
                       size_t end, size_t head_dim, size_t channels, float *wide) {
  const uint16_t *rows[WIDTH];
  for (size_t i = 0; i < WIDTH; i++) rows[i] = x + least(first + i, end - 1) * stride;
  floats factors = {};
  if (norm) factors = norm_factors(rows, head_dim, norm->epsilon);
  for (size_t i = 0; i < WIDTH; i++, wide += channels) {
    if (norm) {
      size_t token = least(first + i, end - 1), angles = token * (head_dim / 2);
      normalize_and_rotate(rows[i], NIBBLE_BF16, wide, NIBBLE_F32, head_dim, factors[i],
                           norm->gains[token < norm->boundary ? 0 : 1], norm->cosine + angles,
                           norm->sine + angles);
    } else {
      EACH_VECTOR(head_dim, c, count, {
        store_part(wide, NIBBLE_F32, c, count, load_part(rows[i], NIBBLE_BF16, c, count));
      })
    }
    for (size_t c = head_dim; c < channels; c++) wide[c] = 0;
  }
}

INLINE uints magnitude(floats x) {
  return (uints)x & 0x7fffffff;
}

/// To bytes; the codes of what is not a number mean nothing.
INLINE ints code_of(floats x, floats inverse) {
  return nearest(x * inverse);
}

/// As nibble_byte_scale_of.
INLINE void byte_scales_of(uints largest, floats *scale, floats *inverse) {
  ints is_finite = largest < 0x7f800000;
  floats quotient = 127 / (floats)largest;
  ints is_invertible = (uints)quotient < 0x7f800000;
  *inverse = choose(is_finite & is_invertible, quotient, (floats){});
  *scale = choose(is_invertible, (floats)largest / 127, (floats){});
  *scale = choose(is_finite, *scale, broadcast(nibble_float_of_bits(0x7fc00000)));
}

/// Means of a block's rows, and the bits of the largest distance from them; neither finite where a
/// row is not.
INLINE uint32_t means_of_rows(const float *rows, size_t count, size_t channels, float *mean) {
  uints largest = {};
  for (size_t channel = 0; channel < channels; channel += PANEL) {
    floats sum[TILE_VECTORS] = {}, low[TILE_VECTORS], high[TILE_VECTORS];
    UNROLL for (int i = 0; i < TILE_VECTORS; i++) {
      low[i] = high[i] = load(rows + channel, NIBBLE_F32, i * WIDTH);
    }
    for (size_t row = 0; row < count; row++) {
      UNROLL for (int i = 0; i < TILE_VECTORS; i++) {
        floats value = load(rows + row * channels + channel, NIBBLE_F32, i * WIDTH);
        sum[i] += value;
        low[i] = lesser(value, low[i]);
        high[i] = greater(value, high[i]);
      }
    }
    UNROLL for (int i = 0; i < TILE_VECTORS; i++) {
      floats middle = sum[i] / (float)count;
      store(mean + channel, NIBBLE_F32, i * WIDTH, middle);
      largest = __builtin_elementwise_max(largest, magnitude(high[i] - middle));
      largest = __builtin_elementwise_max(largest, magnitude(low[i] - middle));
    }
  }
  return __builtin_reduce_max(largest);
}

/// The codes + KEY_OFFSET of PANEL rows from `first` on, the last row again where there are no
/// more.
INLINE void key_codes(const packing *space, const key_block *block, size_t first, float inverse,
                      size_t channels) {
  for (size_t key = 0; key < PANEL; key++) {
    const float *row = space->rows + least(first + key, block->keys - 1) * channels;
    for (size_t channel = 0; channel < channels; channel += WIDTH) {
      floats value = load(row, NIBBLE_F32, channel) - load(block->mean, NIBBLE_F32, channel);
      bytes codes = __builtin_convertvector(code_of(value, broadcast(inverse)), bytes);
      *(bytes_in_memory *)(space->codes + key * channels + channel) = codes + KEY_OFFSET;
    }
  }
}

/// Rows of codes become lanes.
INLINE void transpose_keys(const packing *space, size_t channels, uint8_t *panel) {
  for (size_t channel = 0; channel < channels; channel += 4 * WIDTH) {
    for (size_t vector = 0; vector < TILE_VECTORS; vector++) {
      uints square[WIDTH];
      UNROLL for (size_t lane = 0; lane < WIDTH; lane++) {
        size_t key = key_of_lane(vector, lane);
        square[lane] = (uints)load(space->codes + key * channels + channel, NIBBLE_F32, 0);
      }
      transpose(square);
      UNROLL for (size_t step = 0; step < WIDTH; step++) {
        store(panel + (channel / 4 + step) * PANEL_BYTES, NIBBLE_F32, vector * WIDTH,
              (floats)square[step]);
      }
    }
  }
}

/// The values are asked for meanwhile.
static void pack_keys(const nibble_int8_attention_shape *shape, const sizes *size,
                      const packing *space, const uint16_t *k, const uint16_t *v, size_t first,
                      key_block *block) {
  size_t channels = size->channels;
  size_t end = first + block->keys;
  for (size_t key = 0; key < block->keys; key += WIDTH) {
    for (size_t i = 0; i < WIDTH; i++) {
      prefetch_row(k, shape->k_stride, first + key + WIDTH + i, end, shape->head_dim);
      prefetch_row(v, shape->v_stride, first + key + i, end, shape->head_dim);
    }
    widen_rows(k, shape->k_stride, shape->k_norm, first + key, end, shape->head_dim, channels,
               space->rows + key * channels);
  }
  uint32_t largest = means_of_rows(space->rows, block->keys, channels, block->mean);
  nibble_byte_scale scale = nibble_byte_scale_of(largest);
  *block->key_scale = scale.scale;
  for (size_t key = 0; key < block->keys; key += PANEL) {
    key_codes(space, block, key, scale.inverse, channels);
    transpose_keys(space, channels, block->keys_codes + key * channels);
  }
}

/// Scales of the channels.
INLINE void value_scales(const packing *space, const key_block *block, size_t channels) {
  for (size_t channel = 0; channel < channels; channel += PANEL) {
    uints largest[TILE_VECTORS] = {};
    for (size_t key = 0; key < block->keys; key++) {
      UNROLL for (int i = 0; i < TILE_VECTORS; i++) {
        floats value = load(space->rows + key * channels + channel, NIBBLE_F32, i * WIDTH);
        largest[i] = __builtin_elementwise_max(largest[i], magnitude(value));
      }
    }
    UNROLL for (int i = 0; i < TILE_VECTORS; i++) {
      floats scale, inverse;
      byte_scales_of(largest[i], &scale, &inverse);
      store(block->value_scales + channel, NIBBLE_F32, i * WIDTH, scale);
      store(space->inverse + channel, NIBBLE_F32, i * WIDTH, inverse);
    }
  }
}

/// Four keys of one vector of channels.
INLINE uints codes_of_four(const packing *space, const key_block *block, size_t key, size_t channel,
                           size_t channels) {
  floats inverse = load(space->inverse, NIBBLE_F32, channel);
  uints step = {};
  UNROLL for (size_t i = 0; i < 4; i++) {
    if (key + i >= block->keys) break;
    floats value = load(space->rows, NIBBLE_F32, (key + i) * channels + channel);
    step |= ((uints)(code_of(value, inverse) + VALUE_OFFSET) & 0xff) << (8 * i);
  }
  return step;
}

static void pack_values(const nibble_int8_attention_shape *shape, const sizes *size,
                        const packing *space, const uint16_t *v, size_t first, key_block *block) {
  size_t channels = size->channels;
  for (size_t key = 0; key < block->keys; key += WIDTH) {
    widen_rows(v, shape->v_stride, NULL, first + key, first + block->keys, shape->head_dim,
               channels, space->rows + key * channels);
  }
  value_scales(space, block, channels);
  size_t padded = round_up(block->keys, PANEL);
  for (size_t panel = 0; panel < channels; panel += PANEL) {
    uint8_t *target = block->values_codes + panel * KEY_BLOCK;
    for (size_t key = 0; key < padded; key += 4, target += PANEL_BYTES) {
      UNROLL for (size_t lane = 0; lane < PANEL; lane += WIDTH) {
        uints step = codes_of_four(space, block, key, panel + lane, channels);
        store(target, NIBBLE_F32, lane, (floats)step);
      }
    }
  }
}

static void pack(const nibble_int8_attention_shape *shape, const uint16_t *k, const uint16_t *v,
                 void *packed, size_t block, void *scratch) {
  sizes size = sizes_of(shape);
  packing space = lay_out_packing(&size, scratch);
  key_block to = block_of(shape, &size, packed, block);
  pack_keys(shape, &size, &space, k, v, block * KEY_BLOCK, &to);
  pack_values(shape, &size, &space, v, block * KEY_BLOCK, &to);
}

#endif
