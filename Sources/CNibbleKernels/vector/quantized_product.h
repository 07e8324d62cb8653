// The product of quantized rows and 4-bit weights: what all instruction sets share around their
// exact sums of a group, which they define before they include this.
#ifndef NIBBLE_VECTOR_QUANTIZED_PRODUCT_H
#define NIBBLE_VECTOR_QUANTIZED_PRODUCT_H

#include "../quantized.h"
#include "exponential.h"

#ifndef PRODUCT_ROWS
#error "define PRODUCT_ROWS and PRODUCT_TILES, the rows and tiles of 16 outputs worked at once"
#endif

enum {
  VECTORS_OF_TILE = TILE_OUTPUTS / WIDTH,
  PRODUCT_VECTORS = PRODUCT_TILES * VECTORS_OF_TILE,
  GROUP_BYTES = TILE_OUTPUTS * GROUP / 2,
};
_Static_assert(NIBBLE_TILE_ROWS % PRODUCT_ROWS == 0, "rows lie in whole tiles");

/// What a call is asked for.
typedef struct product {
  const nibble_quantized_layer *layer;
  const nibble_quantized_rows *x;
  size_t row_end, first_output, output_end;
  const nibble_destination *to;
} product;

INLINE size_t end_tile_of(const product *p) {
  return (p->output_end + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
}

/// What the sums of a group are made of: PRODUCT_ROWS rows and tiles from `weights` on.
typedef struct group_operands {
  const int8_t *codes;    // GROUP for each row
  const int32_t *starts;  // what a row's exact sums begin with
  const float *scales;    // of each row
  const uint8_t *weights;
  const uint16_t *weight_scales;
  size_t tile_bytes, tile_scales;  // from one tile to the next, in weights and scales
} group_operands;

INLINE group_operands operands_of(const product *p, size_t row, size_t tile, size_t group) {
  const nibble_quantized_layer *layer = p->layer;
  size_t groups = layer->in / GROUP, index = nibble_index_of_group(layer->in, row, group);
  return (group_operands){
      .codes = p->x->codes + index * GROUP,
      .starts = p->x->starts + index,
      .scales = p->x->scales + index,
      .weights = layer->codes + (tile * groups + group) * GROUP_BYTES,
      .weight_scales = layer->scales + (tile * groups + group) * TILE_OUTPUTS,
      .tile_bytes = groups * GROUP_BYTES,
      .tile_scales = groups * TILE_OUTPUTS,
  };
}

/// The next group's, of the same rows and outputs.
INLINE group_operands next_group(group_operands x) {
  x.codes += NIBBLE_TILE_ROWS * GROUP;
  x.starts += NIBBLE_TILE_ROWS;
  x.scales += NIBBLE_TILE_ROWS;
  x.weights += GROUP_BYTES;
  x.weight_scales += TILE_OUTPUTS;
  return x;
}

/// The sums of a few rows and outputs over all groups. The rows' codes stay in the first cache, at
/// least for few inputs, while the weights of one panel of outputs after the other pass by.
INLINE void sum_groups(const product *p, size_t row, size_t tile,
                       floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles);

/// x Φ(x) in its form with tanh: 0.5 x (1 + tanh z) is x / (1 + e^-2z), z = √(2/π) (x + 0.044715
/// x³).
INLINE floats gelu_of(floats x) {
  const floats linear = broadcast(-2 * 0.7978845608f);
  floats z = linear * multiply_add(broadcast(0.044715f) * x * x, x, x);
  return x / one_plus_exponential(z);
}

/// Adds the low-rank up-projection.
INLINE void add_up(const product *p, size_t row, size_t tile,
                   floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  size_t rank = p->layer->rank;
  const float *branch = p->x->branch + row * rank;
  const uint16_t *up = p->layer->up + tile * rank * TILE_OUTPUTS;
  for (size_t i = 0; i < rank; i++, up += TILE_OUTPUTS) {
    UNROLL for (int v = 0; v < tiles * VECTORS_OF_TILE; v++) {
      floats weights = load(up + v / VECTORS_OF_TILE * rank * TILE_OUTPUTS, NIBBLE_BF16,
                            v % VECTORS_OF_TILE * WIDTH);
      UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
        sums[r][v] = multiply_add(weights, broadcast(branch[r * rank + i]), sums[r][v]);
      }
    }
  }
}

#ifdef MULTIPLY_ADD_PAIRS
/// The same of the branch rounded to bf16, two ranks at a time: half the multiplications, and an
/// error like that of an output's own rounding to bf16.
INLINE void add_up_in_pairs(const product *p, size_t row, size_t tile,
                            floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  enum { RANKS = NIBBLE_RANK_MULTIPLE };
  size_t rank = p->layer->rank;
  const float *branch = p->x->branch + row * rank;
  const uint16_t *up = p->layer->up + tile * rank * TILE_OUTPUTS;
  for (size_t first = 0; first < rank; first += RANKS) {
    uint32_t pairs[PRODUCT_ROWS][RANKS / 2];
    UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
      store_rounded(pairs[r], load(branch + r * rank + first, NIBBLE_F32, 0));
    }
    for (int pair = 0; pair < RANKS / 2; pair++, up += 2 * TILE_OUTPUTS) {
      UNROLL for (int v = 0; v < tiles; v++) {
        const uint16_t *two = up + v * rank * TILE_OUTPUTS;
        uints even = (uints)load(two, NIBBLE_BF16, 0), odd = (uints)load(two, NIBBLE_BF16, WIDTH);
        UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
          sums[r][v] = MULTIPLY_ADD_PAIRS(sums[r][v], pairs[r][pair], even >> 16 | odd);
        }
      }
    }
  }
}
#else
#define add_up_in_pairs add_up
#endif

/// Merges the sums, after GELU if asked, with what y holds.
INLINE void write_sums(const product *p, size_t row, size_t tile, nibble_float type,
                       floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  const nibble_destination *to = p->to;
  UNROLL for (int v = 0; v < tiles * VECTORS_OF_TILE; v++) {
    size_t output = tile * TILE_OUTPUTS + v * WIDTH, place = output - p->first_output;
    if (output >= p->output_end) break;
    size_t count = p->output_end - output < WIDTH ? p->output_end - output : WIDTH;
    floats gate = to->gate ? load_part(to->gate, NIBBLE_F32, output, count) : broadcast(1);
    UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
      if (row + r >= p->row_end) break;
      floats value = to->gelu ? gelu_of(sums[r][v]) : sums[r][v];
      void *y = nibble_mutable_row(to->y, type, to->stride, row + r);
      if (to->merge == NIBBLE_ADD) {
        value = multiply_add(gate, value, load_part(y, type, place, count));
      } else if (to->merge == NIBBLE_MULTIPLY) {
        value *= load_part(y, type, place, count);
      }
#ifdef MULTIPLY_ADD_PAIRS
      if (type == NIBBLE_BF16 && count == WIDTH) {
        store_rounded((uint16_t *)y + place, value);
        continue;
      }
#endif
      store_part(y, type, place, count, value);
    }
  }
}

/// Low-rank up-projection, bias, and what the destination asks for.
INLINE void finish(const product *p, size_t row, size_t tile,
                   floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  if (p->to->branch_in_f32) {
    add_up(p, row, tile, sums, tiles);
  } else {
    add_up_in_pairs(p, row, tile, sums, tiles);
  }
  if (p->layer->bias) {
    UNROLL for (int v = 0; v < tiles * VECTORS_OF_TILE; v++) {
      size_t output = tile * TILE_OUTPUTS + v * WIDTH;
      if (output >= p->output_end) break;
      size_t count = p->output_end - output < WIDTH ? p->output_end - output : WIDTH;
      floats bias = load_part(p->layer->bias, NIBBLE_F32, output, count);
      UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) sums[r][v] += bias;
    }
  }
  FOR_TYPE(p->to->type, TYPE, write_sums(p, row, tile, TYPE, sums, tiles))
}

// Functions of their own: within the loops around them the compiler would run out of registers.
__attribute__((noinline)) static void work_tiles(const product *p, size_t row, size_t tile) {
  floats sums[PRODUCT_ROWS][PRODUCT_VECTORS] = {};
  sum_groups(p, row, tile, sums, PRODUCT_TILES);
  finish(p, row, tile, sums, PRODUCT_TILES);
}
#if PRODUCT_TILES > 1
__attribute__((noinline)) static void work_one_tile(const product *p, size_t row, size_t tile) {
  floats sums[PRODUCT_ROWS][PRODUCT_VECTORS] = {};
  sum_groups(p, row, tile, sums, 1);
  finish(p, row, tile, sums, 1);
}
#else
#define work_one_tile work_tiles
#endif

static void quantized_product(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                              size_t first_row, size_t row_count, size_t first_output,
                              size_t output_count, const nibble_destination *to) {
  product p = {layer, x, first_row + row_count, first_output, first_output + output_count, to};
  size_t first_tile = first_output / TILE_OUTPUTS, end_tile = end_tile_of(&p);
  for (size_t row = first_row; row < p.row_end; row += PRODUCT_ROWS) {
    size_t tile = first_tile;
    for (; tile + PRODUCT_TILES <= end_tile; tile += PRODUCT_TILES) work_tiles(&p, row, tile);
    for (; tile < end_tile; tile++) work_one_tile(&p, row, tile);
  }
}

#endif
