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
  PANEL_OUTPUTS = 2 * TILE_OUTPUTS,  ///< outputs whose sums wait in the scratch memory
  GROUP_BYTES = TILE_OUTPUTS * GROUP / 2,
  /// Groups of a panel that are worked with all rows before the next: 16 KiB of weights, which
  /// stay in the first cache beside the sums and a few rows.
  BLOCK_GROUPS = 16
};
_Static_assert(NIBBLE_TILE_ROWS % PRODUCT_ROWS == 0, "rows lie in whole tiles");

/// What a call is asked for.
typedef struct product {
  const nibble_quantized_layer *layer;
  const nibble_quantized_rows *x;
  size_t row_end, output_end;
  bool gelu;
  void *y;
  nibble_float y_type;
  size_t y_stride;
} product;

/// Exact sums of one group: PRODUCT_ROWS rows from `codes` on, 64 bytes each, times `tiles` tiles
/// from `weights` on, `tile_bytes` apart; they begin with `starts`.
INLINE void sum_group(const int8_t *codes, const int32_t *starts, const uint8_t *weights,
                      size_t tile_bytes, ints sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles);

/// Adds groups first ..< end to the sums of a few rows and outputs. `ahead` are the codes of those
/// groups of the rows that are worked next: they come from the second cache meanwhile.
INLINE void add_groups(const product *p, size_t row, size_t tile, size_t first, size_t end,
                       const int8_t *ahead, floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  size_t groups = p->layer->in / GROUP, tile_bytes = groups * GROUP_BYTES;
  size_t index = nibble_index_of_group(p->layer->in, row, first);
  const int8_t *codes = p->x->codes + index * GROUP;
  const int32_t *starts = p->x->starts + index;
  const float *scales = p->x->scales + index;
  const uint8_t *weights = p->layer->codes + tile * tile_bytes + first * GROUP_BYTES;
  const uint16_t *weight_scales = p->layer->scales + (tile * groups + first) * TILE_OUTPUTS;
  for (size_t group = first; group < end; group++) {
    UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) __builtin_prefetch(ahead + r * GROUP);
    ints exact[PRODUCT_ROWS][PRODUCT_VECTORS];
    sum_group(codes, starts, weights, tile_bytes, exact, tiles);
    UNROLL for (int v = 0; v < tiles * VECTORS_OF_TILE; v++) {
      floats scale = load(weight_scales + v / VECTORS_OF_TILE * groups * TILE_OUTPUTS, NIBBLE_BF16,
                          v % VECTORS_OF_TILE * WIDTH);
      UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
        floats sum = __builtin_convertvector(exact[r][v], floats);
        sums[r][v] = multiply_add(sum, scale * broadcast(scales[r]), sums[r][v]);
      }
    }
    ahead += NIBBLE_TILE_ROWS * GROUP;
    codes += NIBBLE_TILE_ROWS * GROUP;
    starts += NIBBLE_TILE_ROWS;
    scales += NIBBLE_TILE_ROWS;
    weights += GROUP_BYTES;
    weight_scales += TILE_OUTPUTS;
  }
}

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

/// Rounds the sums to y's type, after GELU if asked.
INLINE void write_sums(const product *p, size_t row, size_t tile, nibble_float y_type,
                       floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  UNROLL for (int v = 0; v < tiles * VECTORS_OF_TILE; v++) {
    size_t output = tile * TILE_OUTPUTS + v * WIDTH;
    if (output >= p->output_end) break;
    size_t count = p->output_end - output < WIDTH ? p->output_end - output : WIDTH;
    UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
      if (row + r >= p->row_end) break;
      floats value = p->gelu ? gelu_of(sums[r][v]) : sums[r][v];
      void *y = nibble_mutable_row(p->y, y_type, p->y_stride, row + r);
#ifdef MULTIPLY_ADD_PAIRS
      if (y_type == NIBBLE_BF16 && count == WIDTH) {
        store_rounded((uint16_t *)y + output, value);
        continue;
      }
#endif
      store_part(y, y_type, output, count, value);
    }
  }
}

/// Low-rank up-projection, bias, GELU and the rounding to y's type.
INLINE void finish(const product *p, size_t row, size_t tile,
                   floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  if (p->y_type == NIBBLE_F32) {
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
  FOR_TYPE(p->y_type, TYPE, write_sums(p, row, tile, TYPE, sums, tiles))
}

/// One block of groups of a few rows and outputs, whose sums wait at `waiting` between the blocks.
INLINE void work_block(const product *p, size_t row, size_t tile, size_t first, size_t end,
                       const int8_t *ahead, float *waiting, int tiles) {
  floats sums[PRODUCT_ROWS][PRODUCT_VECTORS] = {};
  if (first > 0) {
    UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
      UNROLL for (int v = 0; v < tiles * VECTORS_OF_TILE; v++) {
        sums[r][v] = load(waiting + r * PANEL_OUTPUTS, NIBBLE_F32, v * WIDTH);
      }
    }
  }
  add_groups(p, row, tile, first, end, ahead, sums, tiles);
  if (end == p->layer->in / GROUP) return finish(p, row, tile, sums, tiles);
  UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
    UNROLL for (int v = 0; v < tiles * VECTORS_OF_TILE; v++) {
      store(waiting + r * PANEL_OUTPUTS, NIBBLE_F32, v * WIDTH, sums[r][v]);
    }
  }
}

// Functions of their own: within the loops around them the compiler would run out of registers.
__attribute__((noinline)) static void work_tiles(const product *p, size_t row, size_t tile,
                                                 size_t first, size_t end, const int8_t *ahead,
                                                 float *waiting) {
  work_block(p, row, tile, first, end, ahead, waiting, PRODUCT_TILES);
}
__attribute__((noinline)) static void work_one_tile(const product *p, size_t row, size_t tile,
                                                    size_t first, size_t end, const int8_t *ahead,
                                                    float *waiting) {
  work_block(p, row, tile, first, end, ahead, waiting, 1);
}

/// Asks for some of the codes that are worked after the groups before `end`: a panel's next groups,
/// or the next panel's first. All are in the first cache when they are needed, if every tile of
/// rows asks for its share; beyond the last weights it is a hint without effect.
INLINE void prefetch_codes(const nibble_quantized_layer *layer, size_t tile, size_t end,
                           size_t first_line, size_t lines, int tiles) {
  size_t groups = layer->in / GROUP, tile_bytes = groups * GROUP_BYTES;
  size_t next_tile = end < groups ? tile : tile + tiles, next_group = end < groups ? end : 0;
  uintptr_t start = (uintptr_t)layer->codes + next_tile * tile_bytes + next_group * GROUP_BYTES;
  for (size_t line = first_line; line < first_line + lines; line++) {
    for (int t = 0; t < tiles; t++) {
      __builtin_prefetch((const void *)(start + t * tile_bytes + line * 64));
    }
  }
}

static void work_panel(const product *p, size_t first_row, size_t tile, int tiles, float *waiting) {
  size_t groups = p->layer->in / GROUP;
  size_t pieces = (p->row_end - first_row + PRODUCT_ROWS - 1) / PRODUCT_ROWS;
  size_t lines = (BLOCK_GROUPS * GROUP_BYTES / 64 + pieces - 1) / pieces;
  for (size_t first = 0; first < groups; first += BLOCK_GROUPS) {
    size_t end = first + BLOCK_GROUPS < groups ? first + BLOCK_GROUPS : groups;
    for (size_t piece = 0; piece < pieces; piece++) {
      size_t row = first_row + piece * PRODUCT_ROWS;
      size_t next = nibble_index_of_group(p->layer->in, row + PRODUCT_ROWS, first);
      float *sums = waiting + piece * PRODUCT_ROWS * PANEL_OUTPUTS;
      prefetch_codes(p->layer, tile, end, piece * lines, lines, tiles);
      if (tiles == PRODUCT_TILES) {
        work_tiles(p, row, tile, first, end, p->x->codes + next * GROUP, sums);
      } else {
        work_one_tile(p, row, tile, first, end, p->x->codes + next * GROUP, sums);
      }
    }
  }
}

static void quantized_product(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                              size_t first_row, size_t row_count, size_t first_output,
                              size_t output_count, bool gelu, void *y, nibble_float y_type,
                              size_t y_stride, void *scratch) {
  if (row_count == 0) return;
  size_t end = first_output + output_count, output = first_output;
  product p = {layer, x, first_row + row_count, end, gelu, y, y_type, y_stride};
  while (output + (PRODUCT_TILES - 1) * TILE_OUTPUTS < end) {
    work_panel(&p, first_row, output / TILE_OUTPUTS, PRODUCT_TILES, scratch);
    output += PRODUCT_TILES * TILE_OUTPUTS;
  }
  if (output < end) work_panel(&p, first_row, output / TILE_OUTPUTS, 1, scratch);
}

#endif
