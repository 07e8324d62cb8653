// Attention in bytes; nibble_int8_attention.h has the formulas.
//
// Both products run on tiles of TILE_ROWS queries by PANEL lanes (keys for scores, channels for
// outputs) in registers. A step is four bytes of a row, which every lane multiplies with four of
// its own. All rows of a query block go through one block of keys before the next: 48 rows and 256
// keys are 48 KiB of scores, and a panel of keys or values is asked for while the one before is
// worked.
//
// Packed, for each block of keys: the keys' codes + 128 as panels [keys / PANEL][head_dim /
// 4][PANEL][4], then the values' codes as panels [head_dim / PANEL][keys / 4][PANEL][4]; after all
// blocks the floats of each: the means [head_dim], the values' scales [head_dim], the keys' scale.
// head_dim is padded to whole panels with zeros, keys to whole panels with the block's last key,
// whose further values and units (below) are zeros.
//
// Whoever includes this defines WIDTH as 16 and three functions:
//
//   ints nearest(floats x): rounded, ties to even
//   ints dot_product(ints sum, uints unsigned_bytes, uints signed_bytes)
//   uints weights_of_panel(const int32_t *scores, const panel_factors *factors, const uint16_t
//     *dither): the weights of PANEL keys as bytes in the order of the keys, of scores in the order
//     of key_of_lane and dithers in the same order of pairs as it makes words of (dither_of_word)
#ifndef NIBBLE_VECTOR_INT8_ATTENTION_H
#define NIBBLE_VECTOR_INT8_ATTENTION_H

#include "../int8_attention.h"
#include "exponential.h"
#include "head_norm.h"

enum {
  TILE_ROWS = 6,
  TILE_VECTORS = 4,
  PANEL = WIDTH * TILE_VECTORS,
  PANEL_BYTES = 4 * PANEL,  ///< of one step
  QUERY_BLOCK = 48,
  PANELS_OF_BLOCK = KEY_BLOCK / PANEL,
};
_Static_assert(WIDTH == 16, "the order of keys in a panel is that of 16 lanes");
_Static_assert(QUERY_BLOCK % TILE_ROWS == 0 && QUERY_BLOCK % WIDTH == 0, "whole tiles and vectors");

typedef int8_t signed_bytes __attribute__((vector_size(WIDTH)));
typedef signed_bytes signed_bytes_in_memory __attribute__((aligned(1), may_alias));

/// What a row's weights are made with.
typedef struct panel_factors {
  ints maximum;
  nibble_exponent_factor exponent;
} panel_factors;

INLINE ints nearest(floats x);
INLINE ints dot_product(ints sum, uints unsigned_bytes, uints signed_bytes);
INLINE uints weights_of_panel(const int32_t *scores, const panel_factors *factors,
                              const uint16_t *dither);

/// The key of a panel whose score is in lane `lane` of vector `vector`, so that narrowing twice
/// in the instructions' own order leaves the bytes in the order of the keys.
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

// Packing

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

/// Rows that are asked for ahead: they are far apart, and what comes after a row is another head's,
/// so that the processor does not do it by itself.
enum { ROWS_AHEAD = 16 };

/// Asks for all of row `row`, if there is one.
INLINE void prefetch_row(const uint16_t *x, size_t stride, size_t row, size_t rows,
                         size_t head_dim) {
  if (row >= rows) return;
  for (size_t i = 0; i < head_dim; i += 32) prefetch(x + row * stride + i);
}

/// One row in f32, normalized and rotated if asked for, and zeros up to `channels`.
INLINE void widen_row(const uint16_t *x, const nibble_head_norm *norm, size_t token,
                      size_t head_dim, size_t channels, float *row) {
  if (norm) {
    const float *gain = norm->gains[token < norm->boundary ? 0 : 1];
    size_t angles = token * (head_dim / 2);
    rms_norm_rotary_head(x, NIBBLE_BF16, row, NIBBLE_F32, head_dim, gain, norm->epsilon,
                         norm->cosine + angles, norm->sine + angles);
  } else {
    EACH_VECTOR(head_dim, i, count,
                { store_part(row, NIBBLE_F32, i, count, load_part(x, NIBBLE_BF16, i, count)); })
  }
  for (size_t i = head_dim; i < channels; i++) row[i] = 0;
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

/// The codes + 128 of PANEL rows from `first` on, the last row again where there are no more.
INLINE void key_codes(const packing *space, const key_block *block, size_t first, float inverse,
                      size_t channels) {
  for (size_t key = 0; key < PANEL; key++) {
    const float *row = space->rows + least(first + key, block->keys - 1) * channels;
    for (size_t channel = 0; channel < channels; channel += WIDTH) {
      floats value = load(row, NIBBLE_F32, channel) - load(block->mean, NIBBLE_F32, channel);
      bytes codes = __builtin_convertvector(code_of(value, broadcast(inverse)), bytes);
      *(bytes_in_memory *)(space->codes + key * channels + channel) = codes ^ 0x80;
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
  for (size_t key = 0; key < block->keys; key++) {
    prefetch_row(k, shape->k_stride, first + key + ROWS_AHEAD, shape->keys, shape->head_dim);
    prefetch_row(v, shape->v_stride, first + key, shape->keys, shape->head_dim);
    widen_row(k + (first + key) * shape->k_stride, shape->k_norm, first + key, shape->head_dim,
              channels, space->rows + key * channels);
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
    step |= ((uints)code_of(value, inverse) & 0xff) << (8 * i);
  }
  return step;
}

static void pack_values(const nibble_int8_attention_shape *shape, const sizes *size,
                        const packing *space, const uint16_t *v, size_t first, key_block *block) {
  size_t channels = size->channels;
  for (size_t key = 0; key < block->keys; key++) {
    widen_row(v + (first + key) * shape->v_stride, NULL, first + key, shape->head_dim, channels,
              space->rows + key * channels);
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

// Running

/// What a block of queries works with. Rows are numbered within the block.
typedef struct workspace {
  int32_t *scores;            // [QUERY_BLOCK][KEY_BLOCK]
  int32_t *folded;            // [QUERY_BLOCK][WIDTH]: maxima of scores, later sums of weights
  float *output;              // [QUERY_BLOCK][channels], not yet divided by the sums
  float *offsets;             // [blocks of keys][QUERY_BLOCK]: q · mean, times scale and log2 e
  float *factors;             // [QUERY_BLOCK]: f
  float *reference, *sum;     // [QUERY_BLOCK]: R, and the sum of weights relative to it
  float *exponent, *rescale;  // [QUERY_BLOCK]: M, and 2^(M - R)
  int32_t *starts, *maxima;   // [QUERY_BLOCK]: what a score starts from; the greatest of a block
  uint16_t *dither;           // [KEY_BLOCK], in the order of words
  uint8_t *codes;             // [QUERY_BLOCK][channels]
  uint8_t *weights;           // [QUERY_BLOCK][KEY_BLOCK]
  uint8_t *units;             // [KEY_BLOCK]: 1 for each key that there is
} workspace;

static size_t running_bytes(const sizes *size) {
  size_t words = QUERY_BLOCK * (KEY_BLOCK + WIDTH + size->channels + size->blocks + 7);
  return words * sizeof(float) + KEY_BLOCK * sizeof(uint16_t) +
         QUERY_BLOCK * (size->channels + KEY_BLOCK) + KEY_BLOCK;
}

static size_t scratch_bytes(const nibble_int8_attention_shape *shape) {
  sizes size = sizes_of(shape);
  size_t packing = packing_bytes(&size), running = running_bytes(&size);
  return packing > running ? packing : running;
}

static workspace lay_out(const sizes *size, void *scratch) {
  workspace space;
  space.scores = scratch;
  space.folded = space.scores + QUERY_BLOCK * KEY_BLOCK;
  space.output = (float *)(space.folded + QUERY_BLOCK * WIDTH);
  space.offsets = space.output + QUERY_BLOCK * size->channels;
  space.factors = space.offsets + size->blocks * QUERY_BLOCK;
  space.reference = space.factors + QUERY_BLOCK;
  space.sum = space.reference + QUERY_BLOCK;
  space.exponent = space.sum + QUERY_BLOCK;
  space.rescale = space.exponent + QUERY_BLOCK;
  space.starts = (int32_t *)(space.rescale + QUERY_BLOCK);
  space.maxima = space.starts + QUERY_BLOCK;
  space.dither = (uint16_t *)(space.maxima + QUERY_BLOCK);
  space.codes = (uint8_t *)(space.dither + KEY_BLOCK);
  space.weights = space.codes + QUERY_BLOCK * size->channels;
  space.units = space.weights + QUERY_BLOCK * KEY_BLOCK;
  return space;
}

typedef enum fold { GREATEST, SUM, SUM_OF_FLOATS } fold;

/// Lane i becomes the fold of the lanes of row i.
INLINE ints fold_rows(const ints rows[WIDTH], fold kind) {
  ints x[WIDTH];
  UNROLL for (int i = 0; i < WIDTH; i++) x[i] = rows[i];
  UNROLL for (int n = WIDTH / 2; n >= 1; n /= 2) {
    UNROLL for (int i = 0; i < n; i++) {
      ints first = __builtin_shufflevector(x[i], x[i + n], FIRST_HALVES);
      ints last = __builtin_shufflevector(x[i], x[i + n], LAST_HALVES);
      if (kind == GREATEST) {
        x[i] = __builtin_elementwise_max(first, last);
      } else if (kind == SUM) {
        x[i] = first + last;
      } else {
        x[i] = (ints)((floats)first + (floats)last);
      }
    }
  }
  return x[0];
}

/// The fold of WIDTH rows in memory.
INLINE ints fold_of(const int32_t *rows, fold kind) {
  ints x[WIDTH];
  UNROLL for (int i = 0; i < WIDTH; i++) x[i] = (ints)load(rows + i * WIDTH, NIBBLE_F32, 0);
  return fold_rows(x, kind);
}

/// A query as codes.
INLINE void quantize_query(const workspace *space, size_t row, size_t channels, float factor) {
  const float *x = space->output + row * channels;
  uints largest = {};
  for (size_t i = 0; i < channels; i += WIDTH) {
    largest = __builtin_elementwise_max(largest, magnitude(load(x, NIBBLE_F32, i)));
  }
  nibble_byte_scale scale = nibble_byte_scale_of(__builtin_reduce_max(largest));
  space->factors[row] = scale.scale * factor;
  ints total = {};
  for (size_t i = 0; i < channels; i += WIDTH) {
    ints code = code_of(load(x, NIBBLE_F32, i), broadcast(scale.inverse));
    total += code;
    signed_bytes narrow = __builtin_convertvector(code, signed_bytes);
    *(signed_bytes_in_memory *)(space->codes + row * channels + i) = narrow;
  }
  // The keys' codes are all greater by 128.
  space->starts[row] = -128 * __builtin_reduce_add(total);
}

/// Products of WIDTH queries with the mean of a block of keys.
INLINE floats products_with_mean(const float *rows, const float *mean, size_t channels) {
  ints sums[WIDTH] = {};
  for (size_t i = 0; i < channels; i += WIDTH) {
    floats factor = load(mean, NIBBLE_F32, i);
    UNROLL for (int row = 0; row < WIDTH; row++) {
      floats x = load(rows + row * channels, NIBBLE_F32, i);
      sums[row] = (ints)multiply_add(x, factor, (floats)sums[row]);
    }
  }
  return (floats)fold_rows(sums, SUM_OF_FLOATS);
}

/// The last query again where there are no more. The place of the output first holds the queries.
static void prepare_queries(const nibble_int8_attention_shape *shape, const sizes *size,
                            const uint16_t *q, const void *packed, const workspace *space,
                            size_t first, size_t rows) {
  const float factor = shape->scale * 0x1.715476p0f;  // log2 e
  size_t channels = size->channels;
  for (size_t row = 0; row < QUERY_BLOCK; row++) {
    size_t token = first + least(row, rows - 1);
    prefetch_row(q, shape->q_stride, token + ROWS_AHEAD, first + rows, shape->head_dim);
    widen_row(q + token * shape->q_stride, shape->q_norm, token, shape->head_dim, channels,
              space->output + row * channels);
    quantize_query(space, row, channels, factor);
    space->reference[row] = -INFINITY;
    space->sum[row] = 0;
  }
  for (size_t block = 0; block < size->blocks; block++) {
    const float *mean = block_of(shape, size, (void *)packed, block).mean;
    for (size_t row = 0; row < QUERY_BLOCK; row += WIDTH) {
      floats products = products_with_mean(space->output + row * channels, mean, channels);
      store(space->offsets + block * QUERY_BLOCK, NIBBLE_F32, row, products * factor);
    }
  }
  for (size_t i = 0; i < QUERY_BLOCK * channels; i++) space->output[i] = 0;
  for (size_t i = 0; i < QUERY_BLOCK * WIDTH; i++) space->folded[i] = 0;
}

INLINE uints step_of(const void *row, size_t step) {
  int32_t four;
  memcpy(&four, (const uint8_t *)row + 4 * step, sizeof four);
  return (uints)(four - (ints){});
}

/// Scores of one tile and one panel of keys, and the maxima of each lane so far.
INLINE void score_tile(const uint8_t *codes, size_t channels, const uint8_t *panel, size_t steps,
                       const int32_t *starts, int32_t *scores, int32_t *maxima, bool is_first,
                       const uint8_t *next) {
  ints sums[TILE_ROWS][TILE_VECTORS];
  UNROLL for (int r = 0; r < TILE_ROWS; r++) {
    UNROLL for (int c = 0; c < TILE_VECTORS; c++) sums[r][c] = starts[r] - (ints){};
  }
  for (size_t step = 0; step < steps; step++) {
    prefetch(next + step * 64);
    UNROLL for (int r = 0; r < TILE_ROWS; r++) {
      uints queries = step_of(codes + r * channels, step);
      UNROLL for (int c = 0; c < TILE_VECTORS; c++) {
        uints keys = (uints)load(panel + step * PANEL_BYTES, NIBBLE_F32, c * WIDTH);
        sums[r][c] = dot_product(sums[r][c], keys, queries);
      }
    }
  }
  UNROLL for (int r = 0; r < TILE_ROWS; r++) {
    ints greatest = sums[r][0];
    UNROLL for (int c = 1; c < TILE_VECTORS; c++) {
      greatest = __builtin_elementwise_max(greatest, sums[r][c]);
    }
    ints before = (ints)load(maxima + r * WIDTH, NIBBLE_F32, 0);
    if (!is_first) greatest = __builtin_elementwise_max(greatest, before);
    store(maxima + r * WIDTH, NIBBLE_F32, 0, (floats)greatest);
    UNROLL for (int c = 0; c < TILE_VECTORS; c++) {
      store(scores + r * KEY_BLOCK, NIBBLE_F32, c * WIDTH, (floats)sums[r][c]);
    }
  }
}

static void score_block(const workspace *space, const sizes *size, size_t tiles,
                        const key_block *block) {
  size_t channels = size->channels, panel_bytes = PANEL * channels;
  for (size_t key = 0; key < block->keys; key += PANEL) {
    const uint8_t *panel = block->keys_codes + key * channels;
    // The panel after the last is the first of values.
    const uint8_t *next = key + PANEL < block->keys ? panel + panel_bytes : block->values_codes;
    for (size_t tile = 0; tile < tiles; tile++) {
      size_t row = tile * TILE_ROWS;
      score_tile(space->codes + row * channels, channels, panel, size->steps, space->starts + row,
                 space->scores + row * KEY_BLOCK + key, space->folded + row * WIDTH, key == 0,
                 next + tile % 4 * (panel_bytes / 4));
    }
  }
}

/// Maxima of all rows, and M.
static void find_maxima(const workspace *space, size_t block, float key_scale) {
  const float *offsets = space->offsets + block * QUERY_BLOCK;
  for (size_t row = 0; row < QUERY_BLOCK; row += WIDTH) {
    ints greatest = fold_of(space->folded + row * WIDTH, GREATEST);
    store(space->maxima + row, NIBBLE_F32, 0, (floats)greatest);
    floats factor = load(space->factors, NIBBLE_F32, row) * key_scale;
    floats maximum = __builtin_convertvector(greatest, floats);
    store(space->exponent, NIBBLE_F32, row,
          multiply_add(maximum, factor, load(offsets, NIBBLE_F32, row)));
  }
}

/// For factors so large that distances must be moved up: does that beforehand.
static void spread_scores(int32_t *scores, size_t keys, int32_t maximum, uint32_t left) {
  int32_t most = 65536 >> left;
  for (size_t key = 0; key < keys; key++) {
    int32_t distance = maximum - scores[key];
    scores[key] = maximum - ((distance < most ? distance : most) << left);
  }
}

/// Scores become weights, and `folded` their sums.
static void soften_block(const workspace *space, size_t rows, const key_block *block) {
  size_t keys = round_up(block->keys, PANEL);
  for (size_t row = 0; row < rows; row++) {
    int32_t *scores = space->scores + row * KEY_BLOCK, maximum = space->maxima[row];
    panel_factors factors = {maximum - (ints){},
                             nibble_exponent_factor_of(space->factors[row] * *block->key_scale)};
    if (factors.exponent.left) spread_scores(scores, keys, maximum, factors.exponent.left);
    ints total = {};
    for (size_t key = 0; key < keys; key += PANEL) {
      uints weights = weights_of_panel(scores + key, &factors, space->dither + key);
      store(space->weights + row * KEY_BLOCK + key, NIBBLE_F32, 0, (floats)weights);
      total = dot_product(total, weights, (uints)load(space->units + key, NIBBLE_F32, 0));
    }
    store(space->folded + row * WIDTH, NIBBLE_F32, 0, (floats)total);
  }
}

/// Moves a row's reference up to `exponent`.
static void move_reference(const workspace *space, size_t row, size_t channels) {
  float correction = exp2f(space->reference[row] - space->exponent[row]);
  space->reference[row] = space->exponent[row];
  space->sum[row] *= correction;
  for (size_t i = 0; i < channels; i++) space->output[row * channels + i] *= correction;
}

/// Brings references and sums up to date, and what the block's weights are multiplied by.
static void relate_block(const workspace *space, size_t channels) {
  for (size_t row = 0; row < QUERY_BLOCK; row += WIDTH) {
    floats limit = load(space->reference, NIBBLE_F32, row) + 64;
    // So that NaN is above it too.
    ints is_above = ~(load(space->exponent, NIBBLE_F32, row) <= limit);
    if (!__builtin_reduce_or(is_above)) continue;
    for (size_t i = 0; i < WIDTH; i++) {
      if (is_above[i]) move_reference(space, row + i, channels);
    }
  }
  for (size_t row = 0; row < QUERY_BLOCK; row += WIDTH) {
    floats total = __builtin_convertvector(fold_of(space->folded + row * WIDTH, SUM), floats);
    floats above = load(space->exponent, NIBBLE_F32, row) - load(space->reference, NIBBLE_F32, row);
    floats rescale = power_of_two(above, (floats){}, exponential_degree_6, 6);
    store(space->rescale, NIBBLE_F32, row, rescale);
    store(space->sum, NIBBLE_F32, row,
          multiply_add(rescale, total, load(space->sum, NIBBLE_F32, row)));
  }
}

/// Adds one block's weighted values to the output of one tile and one panel of channels.
INLINE void output_tile(const uint8_t *weights, const uint8_t *panel, size_t steps,
                        const float *rescale, const float *scales, float *output, size_t channels,
                        const uint8_t *next) {
  ints sums[TILE_ROWS][TILE_VECTORS] = {};
  for (size_t step = 0; step < steps; step++) {
    prefetch(next + step * 64);
    UNROLL for (int r = 0; r < TILE_ROWS; r++) {
      uints row = step_of(weights + r * KEY_BLOCK, step);
      UNROLL for (int c = 0; c < TILE_VECTORS; c++) {
        uints values = (uints)load(panel + step * PANEL_BYTES, NIBBLE_F32, c * WIDTH);
        sums[r][c] = dot_product(sums[r][c], row, values);
      }
    }
  }
  UNROLL for (int r = 0; r < TILE_ROWS; r++) {
    UNROLL for (int c = 0; c < TILE_VECTORS; c++) {
      floats scale = load(scales, NIBBLE_F32, c * WIDTH) * broadcast(rescale[r]);
      floats sum = __builtin_convertvector(sums[r][c], floats);
      floats before = load(output, NIBBLE_F32, r * channels + c * WIDTH);
      store(output, NIBBLE_F32, r * channels + c * WIDTH, multiply_add(sum, scale, before));
    }
  }
}

static void output_block(const workspace *space, const sizes *size, size_t tiles,
                         const key_block *block) {
  size_t channels = size->channels, steps = round_up(block->keys, PANEL) / 4;
  for (size_t channel = 0; channel < channels; channel += PANEL) {
    const uint8_t *panel = block->values_codes + channel * KEY_BLOCK;
    for (size_t tile = 0; tile < tiles; tile++) {
      size_t row = tile * TILE_ROWS;
      // Beyond the last panel begins the next block of keys, or memory that is only asked for.
      output_tile(space->weights + row * KEY_BLOCK, panel, steps, space->rescale + row,
                  block->value_scales + channel, space->output + row * channels + channel, channels,
                  panel + KEY_BLOCK * PANEL + tile % 4 * (KEY_BLOCK * PANEL / 4));
    }
  }
}

static void write_output(const nibble_int8_attention_shape *shape, const sizes *size,
                         const workspace *space, uint16_t *out, size_t first, size_t rows) {
  for (size_t row = 0; row < rows; row++) {
    uint16_t *target = out + (first + row) * shape->out_stride;
    const float *output = space->output + row * size->channels;
    float sum = space->sum[row];
    EACH_VECTOR(shape->head_dim, i, count,
                { store_part(target, NIBBLE_BF16, i, count, load(output, NIBBLE_F32, i) / sum); })
  }
}

static void run(const nibble_int8_attention_shape *shape, const uint16_t *q, const void *packed,
                uint16_t *out, size_t first, size_t count, void *scratch) {
  sizes size = sizes_of(shape);
  workspace space = lay_out(&size, scratch);
  for (size_t word = 0; word < KEY_BLOCK; word++) {
    size_t panel = word / PANEL * PANEL;
    space.dither[word] = (uint16_t)nibble_dither(panel + key_of_word(word % PANEL));
  }
  for (size_t query = first; query < first + count; query += QUERY_BLOCK) {
    size_t rows = least(first + count - query, QUERY_BLOCK);
    size_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    prepare_queries(shape, &size, q, packed, &space, query, rows);
    for (size_t index = 0; index < size.blocks; index++) {
      key_block block = block_of(shape, &size, (void *)packed, index);
      for (size_t key = 0; key < KEY_BLOCK; key++) space.units[key] = key < block.keys;
      score_block(&space, &size, tiles, &block);
      find_maxima(&space, index, *block.key_scale);
      soften_block(&space, tiles * TILE_ROWS, &block);
      relate_block(&space, size.channels);
      output_block(&space, &size, tiles, &block);
    }
    write_output(shape, &size, &space, out, query, rows);
  }
}

#endif
