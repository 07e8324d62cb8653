// Attention in bytes; nibble_int8_attention.h has the formulas.
//
// Both products run on tiles of TILE_ROWS queries by PANEL lanes (keys for scores, channels for
// outputs) in registers. A step is four bytes of a row, which every lane multiplies with four of
// its own. All rows of a query block go through one block of keys before the next: 48 rows and 256
// keys are 48 KiB of scores, and a panel of keys or values is asked for while the one before is
// worked.
//
// Whoever includes this defines WIDTH, KEY_OFFSET and VALUE_OFFSET, `nearest`, rounded with ties to
// even, and the other functions that are declared here and in int8_weights.h.
#ifndef NIBBLE_VECTOR_INT8_ATTENTION_H
#define NIBBLE_VECTOR_INT8_ATTENTION_H

#include "int8_weights.h"

/// Add four products for each lane: of codes of keys + KEY_OFFSET and codes of a query, and of
/// weights, which are unsigned, and codes of values + VALUE_OFFSET.
INLINE ints add_scores(ints sum, uints keys, uints queries);
INLINE ints add_values(ints sum, uints weights, uints values);

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
  int32_t *totals;            // [QUERY_BLOCK]: sums of a block's weights
  uint16_t *dither;           // [KEY_BLOCK], in the order of words
  uint8_t *codes;             // [QUERY_BLOCK][channels]
  uint8_t *weights;           // [QUERY_BLOCK][KEY_BLOCK]
  uint8_t *units;             // [KEY_BLOCK]: 1 for each key that there is
} workspace;

static size_t running_bytes(const sizes *size) {
  size_t words = QUERY_BLOCK * (KEY_BLOCK + WIDTH + size->channels + size->blocks + 8);
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
  space.totals = space.maxima + QUERY_BLOCK;
  space.dither = (uint16_t *)(space.totals + QUERY_BLOCK);
  space.codes = (uint8_t *)(space.dither + KEY_BLOCK);
  space.weights = space.codes + QUERY_BLOCK * size->channels;
  space.units = space.weights + QUERY_BLOCK * KEY_BLOCK;
  return space;
}

/// WIDTH queries as codes.
INLINE void quantize_queries(const workspace *space, size_t row, size_t channels, float factor) {
  const float *x = space->output + row * channels;
  ints largest[WIDTH] = {}, totals[WIDTH] = {};
  for (size_t i = 0; i < channels; i += WIDTH) {
    UNROLL for (int r = 0; r < WIDTH; r++) {
      ints size = (ints)magnitude(load(x + r * channels, NIBBLE_F32, i));
      largest[r] = __builtin_elementwise_max(largest[r], size);
    }
  }
  floats scales, inverses;
  byte_scales_of((uints)fold_rows(largest, GREATEST), &scales, &inverses);
  store(space->factors, NIBBLE_F32, row, scales * factor);
  for (int r = 0; r < WIDTH; r++) {
    uint8_t *codes = space->codes + (row + r) * channels;
    for (size_t i = 0; i < channels; i += WIDTH) {
      ints code = code_of(load(x + r * channels, NIBBLE_F32, i), broadcast(inverses[r]));
      totals[r] += code;
      *(signed_bytes_in_memory *)(codes + i) = __builtin_convertvector(code, signed_bytes);
    }
  }
  store(space->starts + row, NIBBLE_F32, 0, (floats)(-KEY_OFFSET * fold_rows(totals, SUM)));
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
  for (size_t row = 0; row < rows; row++) {
    prefetch_row(q, shape->q_stride, first + row, first + rows, shape->head_dim);
  }
  for (size_t row = 0; row < QUERY_BLOCK; row += WIDTH) {
    widen_rows(q, shape->q_stride, shape->q_norm, first + row, first + rows, shape->head_dim,
               channels, space->output + row * channels);
    quantize_queries(space, row, channels, factor);
  }
  for (size_t block = 0; block < size->blocks; block++) {
    const float *mean = block_of(shape, size, (void *)packed, block).mean;
    for (size_t row = 0; row < QUERY_BLOCK; row += WIDTH) {
      floats products = products_with_mean(space->output + row * channels, mean, channels);
      store(space->offsets + block * QUERY_BLOCK, NIBBLE_F32, row, products * factor);
    }
  }
  for (size_t i = 0; i < QUERY_BLOCK; i++) space->reference[i] = -INFINITY, space->sum[i] = 0;
  for (size_t i = 0; i < QUERY_BLOCK * channels; i++) space->output[i] = 0;
  for (size_t i = 0; i < QUERY_BLOCK * WIDTH; i++) space->folded[i] = 0;
}

INLINE uints step_of(const void *row, size_t step) {
  int32_t four;
  memcpy(&four, (const uint8_t *)row + 4 * step, sizeof four);
  return (uints)(four - (ints){});
}

/// Runs a block for every row and vector of a tile. With 32 registers a panel's vectors stay in
/// four of them while the rows pass; 16 have no room for four, but for the tile's three rows.
#define EACH_PRODUCT(row, vector, ...)                                     \
  UNROLL for (int i = 0; i < TILE_ROWS * TILE_VECTORS; i++) {              \
    const int row = REGISTERS == 32 ? i / TILE_VECTORS : i % TILE_ROWS;    \
    const int vector = REGISTERS == 32 ? i % TILE_VECTORS : i / TILE_ROWS; \
    __VA_ARGS__                                                            \
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
    prefetch(next + step * (PANEL_BYTES / 4));
    EACH_PRODUCT(r, c, {
      uints keys = (uints)load(panel + step * PANEL_BYTES, NIBBLE_F32, c * WIDTH);
      sums[r][c] = add_scores(sums[r][c], keys, step_of(codes + r * channels, step));
    })
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
      total = add_values(total, weights, (uints)load(space->units + key, NIBBLE_F32, 0));
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
    ints totals = fold_of(space->folded + row * WIDTH, SUM);
    store(space->totals + row, NIBBLE_F32, 0, (floats)totals);
    floats total = __builtin_convertvector(totals, floats);
    floats above = load(space->exponent, NIBBLE_F32, row) - load(space->reference, NIBBLE_F32, row);
    floats rescale = power_of_two(above, (floats){}, exponential_degree_6, 6);
    store(space->rescale, NIBBLE_F32, row, rescale);
    store(space->sum, NIBBLE_F32, row,
          multiply_add(rescale, total, load(space->sum, NIBBLE_F32, row)));
  }
}

/// Adds one block's weighted values to the output of one tile and one panel of channels.
INLINE void output_tile(const uint8_t *weights, const int32_t *totals, const uint8_t *panel,
                        size_t steps, const float *rescale, const float *scales, float *output,
                        size_t channels, const uint8_t *next) {
  ints sums[TILE_ROWS][TILE_VECTORS];
  EACH_PRODUCT(
      r, c, { sums[r][c] = VALUE_OFFSET == 0 ? (ints){} : -VALUE_OFFSET * totals[r] - (ints){}; })
  for (size_t step = 0; step < steps; step++) {
    prefetch(next + step * (PANEL_BYTES / 4));
    EACH_PRODUCT(r, c, {
      uints values = (uints)load(panel + step * PANEL_BYTES, NIBBLE_F32, c * WIDTH);
      sums[r][c] = add_values(sums[r][c], step_of(weights + r * KEY_BLOCK, step), values);
    })
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
      output_tile(space->weights + row * KEY_BLOCK, space->totals + row, panel, steps,
                  space->rescale + row, block->value_scales + channel,
                  space->output + row * channels + channel, channels,
                  panel + KEY_BLOCK * PANEL + tile % 4 * (KEY_BLOCK * PANEL / 4));
    }
  }
}

static void write_output(const nibble_int8_attention_shape *shape, const sizes *size,
                         const workspace *space, uint16_t *out, size_t first, size_t rows) {
  for (size_t row = 0; row < rows; row++) {
    uint16_t *target = out + (first + row) * shape->out_stride;
    const float *output = space->output + row * size->channels;
    float inverse = 1 / space->sum[row];
    EACH_VECTOR(shape->head_dim, i, count, {
      store_part(target, NIBBLE_BF16, i, count, load(output, NIBBLE_F32, i) * inverse);
    })
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
