// Blocked attention with online softmax (M. Milakov, N. Gimelshein, "Online normalizer calculation
// for softmax", 2018).
//
// Both products, scores = q kᵀ and output = weights v, run one micro-kernel: a tile of TILE_ROWS
// queries by up to TILE_VECTORS vectors is kept in registers while one side is read as panels and
// the other as single steps. A step is what one multiply-add lane takes: 32 bits, so either one f32
// (STEP_ELEMENTS 1) or two bf16 (STEP_ELEMENTS 2).
//
// Packed: the keys as panels [keys / panel][head_dim / step][panel], the values as panels [head_dim
// / panel][keys / step][panel], both padded with zeros; a panel is TILE_VECTORS vectors wide, the
// last one only as wide as needed.
//
// Whoever includes this defines, besides WIDTH: TILE_ROWS, TILE_VECTORS, STEP_ELEMENTS, EXPONENTIAL
// and its DEGREE (the coefficients of power_of_two for the weights), and two functions:
//
//   floats accumulate(floats sum, uint32_t step, const uint32_t *panel): sum + step * panel
//   floats store_weights(float *row, size_t key, floats weights): puts weights as steps into the
//     row, over scores that have been read already, and returns what they became
#ifndef NIBBLE_VECTOR_ATTENTION_H
#define NIBBLE_VECTOR_ATTENTION_H

#include "exponential.h"

// A key block's panel of values (64 of 256 keys, 32 KiB) stays in a 48 KiB cache while all tiles of
// a query block use it; scores and weights of a query block stay in the next. Halves and doubles of
// both sizes were within 5 % of these.
enum {
  PANEL = WIDTH * TILE_VECTORS,
  QUERY_BLOCK = 96,
  KEY_BLOCK = 256,
};
_Static_assert(QUERY_BLOCK % TILE_ROWS == 0, "a query block is whole tiles");
_Static_assert(KEY_BLOCK % PANEL == 0, "a key block is whole panels");

static const float log2_of_e = 0x1.715476p0f;

INLINE size_t round_up(size_t n, size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
INLINE size_t steps_of(size_t elements) {
  return (elements + STEP_ELEMENTS - 1) / STEP_ELEMENTS;
}
INLINE size_t least(size_t x, size_t y) {
  return x < y ? x : y;
}

/// Lanes in the panel that starts at `first`.
INLINE size_t panel_lanes(size_t first, size_t n) {
  return round_up(least(n - first, PANEL), WIDTH);
}

/// What a range of queries works with: one block of queries at a time, one block of keys at a time.
typedef struct workspace {
  uint32_t *queries;  // [QUERY_BLOCK][head_dim / step, padded]
  float *scores;      // [QUERY_BLOCK][KEY_BLOCK]; the weights take their place, as steps
  float *output;      // [QUERY_BLOCK][padded head_dim], not yet divided by the sums
  float *maximum, *sum, *correction;  // [QUERY_BLOCK]
} workspace;

static size_t packed_keys_steps(const nibble_attention_shape *shape) {
  return round_up(shape->keys, WIDTH) * steps_of(shape->head_dim);
}

static size_t packed_bytes(const nibble_attention_shape *shape) {
  size_t values = round_up(shape->head_dim, WIDTH) * steps_of(shape->keys);
  return (packed_keys_steps(shape) + values) * sizeof(uint32_t);
}

static size_t queries_steps(const nibble_attention_shape *shape) {
  return QUERY_BLOCK * round_up(steps_of(shape->head_dim), WIDTH);
}

static size_t scratch_bytes(const nibble_attention_shape *shape) {
  size_t output = QUERY_BLOCK * round_up(shape->head_dim, WIDTH);
  return (queries_steps(shape) + QUERY_BLOCK * KEY_BLOCK + output + 3 * QUERY_BLOCK) *
         sizeof(float);
}

static workspace lay_out(const nibble_attention_shape *shape, void *scratch) {
  workspace space;
  space.queries = scratch;
  space.scores = (float *)(space.queries + queries_steps(shape));
  space.output = space.scores + QUERY_BLOCK * KEY_BLOCK;
  space.maximum = space.output + QUERY_BLOCK * round_up(shape->head_dim, WIDTH);
  space.sum = space.maximum + QUERY_BLOCK;
  space.correction = space.sum + QUERY_BLOCK;
  return space;
}

/// Up to WIDTH steps of a row from `step` on; zeros beyond its n elements.
INLINE uints steps_of_row(const void *row, nibble_float type, size_t step, size_t n) {
  size_t first = step * STEP_ELEMENTS, count = least(n - first, WIDTH * STEP_ELEMENTS);
#if STEP_ELEMENTS == 2
  (void)type;
  uints steps;
  const uint16_t *source = (const uint16_t *)row + first;
  if (count == 2 * WIDTH) {
    __builtin_memcpy(&steps, source, sizeof steps);
  } else {
    uint16_t elements[2 * WIDTH] = {0};
    for (size_t i = 0; i < count; i++) elements[i] = source[i];
    __builtin_memcpy(&steps, elements, sizeof steps);
  }
  return steps;
#else
  return (uints)load_part(row, type, first, count);
#endif
}

/// Rows become columns: steps [head_dim / step][lanes] of `lanes` rows, zero from row `rows` on.
INLINE void pack_keys(const void *k, nibble_float type, size_t stride, size_t rows, size_t head_dim,
                      size_t lanes, uint32_t *packed) {
  size_t steps = steps_of(head_dim);
  for (size_t lane = 0; lane < lanes; lane += WIDTH) {
    for (size_t step = 0; step < steps; step += WIDTH) {
      uints square[WIDTH];
      UNROLL for (size_t i = 0; i < WIDTH; i++) {
        const void *row = nibble_row(k, type, stride, lane + i);
        square[i] = lane + i < rows ? steps_of_row(row, type, step, head_dim) : (uints){};
      }
      transpose(square);
      size_t count = least(steps - step, WIDTH);
      for (size_t i = 0; i < count; i++) {
        store(packed, NIBBLE_F32, (step + i) * lanes + lane, (floats)square[i]);
      }
    }
  }
}

/// WIDTH steps along the columns of row `key`, and of the next row where a step holds two keys.
INLINE uints steps_of_values(const void *v, nibble_float type, size_t stride, size_t key,
                             size_t keys, size_t column, size_t columns) {
  (void)keys;  // steps of one key need no next row
  const void *row = nibble_row(v, type, stride, key);
  floats first = load_part(row, type, column, columns);
#if STEP_ELEMENTS == 2
  floats second = {};
  if (key + 1 < keys) {
    row = nibble_row(v, type, stride, key + 1);
    second = load_part(row, type, column, columns);
  }
  return (uints)first >> 16 | (uints)second;
#else
  return (uints)first;
#endif
}

INLINE void pack_values(const nibble_attention_shape *shape, const void *v, nibble_float type,
                        uint32_t *packed) {
  for (size_t first = 0; first < shape->head_dim; first += PANEL) {
    size_t lanes = panel_lanes(first, shape->head_dim);
    for (size_t key = 0; key < shape->keys; key += STEP_ELEMENTS, packed += lanes) {
      for (size_t lane = 0; lane < lanes; lane += WIDTH) {
        size_t column = first + lane;
        uints steps = steps_of_values(v, type, shape->v_stride, key, shape->keys, column,
                                      least(shape->head_dim - column, WIDTH));
        store(packed, NIBBLE_F32, lane, (floats)steps);
      }
    }
  }
}

INLINE void pack(const nibble_attention_shape *shape, const void *k, const void *v, void *packed,
                 nibble_float type) {
  uint32_t *keys = packed;
  for (size_t first = 0; first < shape->keys; first += PANEL) {
    size_t lanes = panel_lanes(first, shape->keys);
    pack_keys(nibble_row(k, type, shape->k_stride, first), type, shape->k_stride,
              shape->keys - first, shape->head_dim, lanes, keys);
    keys += lanes * steps_of(shape->head_dim);
  }
  pack_values(shape, v, type, keys);
}

/// sums += the products of a tile's rows, `row` steps apart, with a panel of `vectors` vectors.
INLINE void multiply_tile(floats sums[TILE_ROWS][TILE_VECTORS], const uint32_t *a, size_t row,
                          const uint32_t *panel, size_t steps, int vectors) {
  for (size_t s = 0; s < steps; s++) {
    UNROLL for (int r = 0; r < TILE_ROWS; r++) {
      UNROLL for (int c = 0; c < vectors; c++) {
        sums[r][c] = accumulate(sums[r][c], a[r * row], panel + c * WIDTH);
      }
    }
    a++;
    panel += vectors * WIDTH;
  }
}

/// Scores of one tile and one panel, times `factor`.
INLINE void score_tile(const uint32_t *queries, const uint32_t *panel, size_t steps, float factor,
                       float *scores, int vectors) {
  size_t query_row = round_up(steps, WIDTH);
  floats sums[TILE_ROWS][TILE_VECTORS] = {};
  multiply_tile(sums, queries, query_row, panel, steps, vectors);
  UNROLL for (int r = 0; r < TILE_ROWS; r++) {
    UNROLL for (int c = 0; c < vectors; c++) {
      store(scores, NIBBLE_F32, r * KEY_BLOCK + c * WIDTH, sums[r][c] * factor);
    }
  }
}

/// output = output * correction + weights * panel, for one tile.
INLINE void output_tile(const float *weights, const uint32_t *panel, size_t steps,
                        const float *correction, float *output, size_t output_row, int vectors) {
  floats sums[TILE_ROWS][TILE_VECTORS];
  UNROLL for (int r = 0; r < TILE_ROWS; r++) {
    UNROLL for (int c = 0; c < vectors; c++) {
      sums[r][c] = load(output, NIBBLE_F32, r * output_row + c * WIDTH) * correction[r];
    }
  }
  multiply_tile(sums, (const uint32_t *)weights, KEY_BLOCK, panel, steps, vectors);
  UNROLL for (int r = 0; r < TILE_ROWS; r++) {
    UNROLL for (int c = 0; c < vectors; c++) {
      store(output, NIBBLE_F32, r * output_row + c * WIDTH, sums[r][c]);
    }
  }
}

// The number of vectors in a panel must be a constant inside the tile, or its sums would not stay
// in registers.
#if TILE_VECTORS == 4
#define FOR_VECTORS(lanes, call) \
  switch ((lanes) / WIDTH) {     \
    case 1: {                    \
      enum { VECTORS = 1 };      \
      call;                      \
      break;                     \
    }                            \
    case 2: {                    \
      enum { VECTORS = 2 };      \
      call;                      \
      break;                     \
    }                            \
    case 3: {                    \
      enum { VECTORS = 3 };      \
      call;                      \
      break;                     \
    }                            \
    default: {                   \
      enum { VECTORS = 4 };      \
      call;                      \
    }                            \
  }
#else
#define FOR_VECTORS(lanes, call) \
  switch ((lanes) / WIDTH) {     \
    case 1: {                    \
      enum { VECTORS = 1 };      \
      call;                      \
      break;                     \
    }                            \
    default: {                   \
      enum { VECTORS = 2 };      \
      call;                      \
    }                            \
  }
#endif

/// Scores of all tiles of a query block and the keys first ..< first + count.
static void score_block(const nibble_attention_shape *shape, const workspace *space, size_t tiles,
                        const uint32_t *keys, size_t first, size_t count) {
  size_t steps = steps_of(shape->head_dim);
  float factor = shape->scale * log2_of_e;
  for (size_t column = 0; column < count; column += PANEL) {
    size_t lanes = panel_lanes(first + column, shape->keys);
    const uint32_t *panel = keys + (first + column) * steps;
    for (size_t tile = 0; tile < tiles; tile++) {
      const uint32_t *queries = space->queries + tile * TILE_ROWS * round_up(steps, WIDTH);
      float *scores = space->scores + tile * TILE_ROWS * KEY_BLOCK + column;
      FOR_VECTORS(lanes, score_tile(queries, panel, steps, factor, scores, VECTORS));
    }
  }
}

/// Adds the weighted values of keys first ..< first + count to the output of all tiles.
static void output_block(const nibble_attention_shape *shape, const workspace *space, size_t tiles,
                         const uint32_t *values, size_t first, size_t count) {
  size_t padded = round_up(shape->head_dim, WIDTH), steps = steps_of(count);
  for (size_t column = 0; column < padded; column += PANEL) {
    size_t lanes = panel_lanes(column, shape->head_dim);
    const uint32_t *panel = values + column * steps_of(shape->keys) + first / STEP_ELEMENTS * lanes;
    for (size_t tile = 0; tile < tiles; tile++) {
      const float *weights = space->scores + tile * TILE_ROWS * KEY_BLOCK;
      const float *correction = space->correction + tile * TILE_ROWS;
      float *output = space->output + tile * TILE_ROWS * padded + column;
      FOR_VECTORS(lanes, output_tile(weights, panel, steps, correction, output, padded, VECTORS));
    }
  }
}

/// Adds the bias to a row of scores, and hides those beyond the last visible key.
INLINE void adjust_scores(float *scores, const float *bias, size_t visible, size_t count) {
  size_t key = 0;
  if (bias) {
    for (; key + WIDTH <= visible; key += WIDTH) {
      floats added = load(bias, NIBBLE_F32, key);
      store(scores, NIBBLE_F32, key,
            multiply_add(added, broadcast(log2_of_e), load(scores, NIBBLE_F32, key)));
    }
    for (; key < visible; key++) scores[key] += bias[key] * log2_of_e;
  }
  for (key = visible; key < count; key++) scores[key] = -INFINITY;
}

/// Replaces a row of scores by their weights 2^(score - maximum), and brings maximum and sum up to
/// date.
INLINE void soften_row(float *scores, size_t count, float *maximum, float *sum, float *correction) {
  floats greatest = broadcast(*maximum);
  for (size_t key = 0; key < count; key += WIDTH) {
    greatest = greater(load(scores, NIBBLE_F32, key), greatest);
  }
  float new_maximum = greatest_lane(greatest);
  floats total = {};
  for (size_t key = 0; key < count; key += WIDTH) {
    floats exponent = load(scores, NIBBLE_F32, key) - new_maximum;
    floats weight = power_of_two(exponent, (floats){}, EXPONENTIAL, DEGREE);
    total += store_weights(scores, key, weight);
  }
  *correction = exp2f(*maximum - new_maximum);
  *sum = *sum * *correction + sum_of_lanes(total);
  *maximum = new_maximum;
}

/// Softmax of the scores of the keys first ..< first + count. Rows of `count` are padded to whole
/// vectors.
static void soften_block(const nibble_attention_shape *shape, const workspace *space,
                         size_t first_query, size_t rows, size_t first, size_t count) {
  size_t padded = round_up(count, WIDTH);
  for (size_t row = 0; row < rows; row++) {
    float *scores = space->scores + row * KEY_BLOCK;
    size_t query = least(first_query + row, shape->queries - 1), visible = count;
    if (shape->causal) visible = query < first ? 0 : least(count, query + 1 - first);
    if (shape->bias || visible < padded) {
      const float *bias = NULL;
      if (shape->bias) bias = shape->bias + (ptrdiff_t)query * shape->bias_row_stride + first;
      adjust_scores(scores, bias, visible, padded);
    }
    soften_row(scores, padded, &space->maximum[row], &space->sum[row], &space->correction[row]);
  }
}

/// Queries as rows of steps, with zero rows to fill the last tile.
INLINE void pack_queries(const nibble_attention_shape *shape, const void *q, nibble_float type,
                         const workspace *space, size_t first, size_t rows) {
  size_t padded = round_up(steps_of(shape->head_dim), WIDTH);
  for (size_t row = 0; row < round_up(rows, TILE_ROWS); row++) {
    const void *source = nibble_row(q, type, shape->q_stride, first + row);
    for (size_t step = 0; step < padded; step += WIDTH) {
      uints steps = row < rows ? steps_of_row(source, type, step, shape->head_dim) : (uints){};
      store(space->queries, NIBBLE_F32, row * padded + step, (floats)steps);
    }
  }
}

INLINE void write_output(const nibble_attention_shape *shape, const workspace *space, void *out,
                         nibble_float type, size_t first, size_t rows) {
  size_t padded = round_up(shape->head_dim, WIDTH);
  for (size_t row = 0; row < rows; row++) {
    void *target = nibble_mutable_row(out, type, shape->out_stride, first + row);
    const float *output = space->output + row * padded;
    float sum = space->sum[row];
    EACH_VECTOR(shape->head_dim, column, count, {
      store_part(target, type, column, count, load(output, NIBBLE_F32, column) / sum);
    })
  }
}

INLINE void run(const nibble_attention_shape *shape, const void *q, const void *packed, void *out,
                size_t first, size_t count, void *scratch, nibble_float type) {
  workspace space = lay_out(shape, scratch);
  const uint32_t *keys = packed, *values = keys + packed_keys_steps(shape);
  size_t padded = round_up(shape->head_dim, WIDTH), end = first + count;
  for (size_t query = first; query < end; query += QUERY_BLOCK) {
    size_t rows = least(end - query, QUERY_BLOCK);
    size_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    size_t visible = shape->causal ? least(shape->keys, query + rows) : shape->keys;
    pack_queries(shape, q, type, &space, query, rows);
    for (size_t i = 0; i < QUERY_BLOCK; i++) space.maximum[i] = -FLT_MAX, space.sum[i] = 0;
    for (size_t i = 0; i < QUERY_BLOCK * padded; i++) space.output[i] = 0;
    for (size_t key = 0; key < visible; key += KEY_BLOCK) {
      size_t in_block = least(visible - key, KEY_BLOCK);
      score_block(shape, &space, tiles, keys, key, in_block);
      soften_block(shape, &space, query, tiles * TILE_ROWS, key, in_block);
      output_block(shape, &space, tiles, values, key, in_block);
    }
    write_output(shape, &space, out, type, query, rows);
  }
}

#endif
