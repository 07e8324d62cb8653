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
  TILE_VECTORS_OF_OUTPUTS = TILE_OUTPUTS / WIDTH,
  PRODUCT_VECTORS = PRODUCT_TILES * TILE_VECTORS_OF_OUTPUTS,
  PANEL_OUTPUTS = 2 * TILE_OUTPUTS,  ///< outputs whose sums wait in the scratch memory
  GROUP_BYTES = TILE_OUTPUTS * GROUP / 2,
  /// Groups of a panel that are worked with all rows before the next: 16 KiB of weights, which
  /// stay in the first cache beside the sums and a few rows.
  BLOCK_GROUPS = 16
};

/// Exact sums of one group: `rows` rows from `codes` on, 64 bytes each, times `tiles` tiles from
/// `weights` on, `tile_bytes` apart; they begin with `starts`.
INLINE void sum_group(const int8_t *codes, const int32_t *starts, const uint8_t *weights,
                      size_t tile_bytes, ints sums[PRODUCT_ROWS][PRODUCT_VECTORS], int rows,
                      int tiles);

/// Adds groups first ..< end to the sums of a few rows and outputs.
INLINE void add_groups(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                       size_t row, size_t tile, size_t first, size_t end, float *sums, int rows,
                       int tiles) {
  size_t groups = layer->in / GROUP, tile_bytes = groups * GROUP_BYTES;
  floats totals[PRODUCT_ROWS][PRODUCT_VECTORS];
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < tiles * TILE_VECTORS_OF_OUTPUTS; v++) {
      totals[r][v] =
          first == 0 ? (floats){} : load(sums + r * PANEL_OUTPUTS, NIBBLE_F32, v * WIDTH);
    }
  }
  for (size_t group = first; group < end; group++) {
    size_t index = group * x->rows + row;
    ints exact[PRODUCT_ROWS][PRODUCT_VECTORS];
    sum_group(x->codes + index * GROUP, x->starts + index,
              layer->codes + tile * tile_bytes + group * GROUP_BYTES, tile_bytes, exact, rows,
              tiles);
    UNROLL for (int v = 0; v < tiles * TILE_VECTORS_OF_OUTPUTS; v++) {
      size_t at = (tile + v / TILE_VECTORS_OF_OUTPUTS) * groups + group;
      floats scale =
          load(layer->scales, NIBBLE_BF16, at * TILE_OUTPUTS + v % TILE_VECTORS_OF_OUTPUTS * WIDTH);
      UNROLL for (int r = 0; r < rows; r++) {
        floats sum = __builtin_convertvector(exact[r][v], floats);
        totals[r][v] = multiply_add(sum, scale * broadcast(x->scales[index + r]), totals[r][v]);
      }
    }
  }
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < tiles * TILE_VECTORS_OF_OUTPUTS; v++) {
      store(sums + r * PANEL_OUTPUTS, NIBBLE_F32, v * WIDTH, totals[r][v]);
    }
  }
}

/// x Φ(x) in its form with tanh: 0.5 x (1 + tanh z) is x / (1 + e^-2z), z = √(2/π) (x + 0.044715
/// x³).
INLINE floats gelu_of(floats x) {
  const floats linear = broadcast(-2 * 0.7978845608f);
  floats z = linear * multiply_add(broadcast(0.044715f) * x * x, x, x);
  return x / one_plus_exponential(z);
}

/// Low-rank up-projection, bias, GELU and the rounding to y's type.
INLINE void finish(const nibble_quantized_layer *layer, const nibble_quantized_rows *x, size_t row,
                   size_t tile, const float *sums, bool gelu, void *y, nibble_float y_type,
                   size_t y_stride, size_t end, int rows, int tiles) {
  floats totals[PRODUCT_ROWS][PRODUCT_VECTORS];
  UNROLL for (int r = 0; r < rows; r++) {
    UNROLL for (int v = 0; v < tiles * TILE_VECTORS_OF_OUTPUTS; v++) {
      totals[r][v] = load(sums + r * PANEL_OUTPUTS, NIBBLE_F32, v * WIDTH);
    }
  }
  const float *branch = x->branch + row * layer->rank;
  for (size_t rank = 0; rank < layer->rank; rank++) {
    UNROLL for (int v = 0; v < tiles * TILE_VECTORS_OF_OUTPUTS; v++) {
      size_t at = (tile + v / TILE_VECTORS_OF_OUTPUTS) * layer->rank + rank;
      floats up =
          load(layer->up, NIBBLE_BF16, at * TILE_OUTPUTS + v % TILE_VECTORS_OF_OUTPUTS * WIDTH);
      UNROLL for (int r = 0; r < rows; r++) {
        totals[r][v] = multiply_add(up, broadcast(branch[r * layer->rank + rank]), totals[r][v]);
      }
    }
  }
  UNROLL for (int v = 0; v < tiles * TILE_VECTORS_OF_OUTPUTS; v++) {
    size_t output = tile * TILE_OUTPUTS + v * WIDTH;
    if (output >= end) break;
    size_t count = end - output < WIDTH ? end - output : WIDTH;
    floats bias = layer->bias ? load_part(layer->bias, NIBBLE_F32, output, count) : (floats){};
    UNROLL for (int r = 0; r < rows; r++) {
      floats value = totals[r][v] + bias;
      if (gelu) value = gelu_of(value);
      store_part(nibble_mutable_row(y, y_type, y_stride, row + r), y_type, output, count, value);
    }
  }
}

/// Runs a statement for pieces of `count` rows from `first` on, with ROWS a constant: whole tiles,
/// then pairs, then one.
#define EACH_ROWS(first, count, row, ROWS, ...)                   \
  {                                                               \
    size_t row = (first), rows_end = (first) + (count);           \
    for (; row + PRODUCT_ROWS <= rows_end; row += PRODUCT_ROWS) { \
      enum { ROWS = PRODUCT_ROWS };                               \
      __VA_ARGS__;                                                \
    }                                                             \
    for (; row + 2 <= rows_end; row += 2) {                       \
      enum { ROWS = 2 };                                          \
      __VA_ARGS__;                                                \
    }                                                             \
    for (; row < rows_end; row++) {                               \
      enum { ROWS = 1 };                                          \
      __VA_ARGS__;                                                \
    }                                                             \
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
    UNROLL for (int t = 0; t < tiles; t++) {
      __builtin_prefetch((const void *)(start + t * tile_bytes + line * 64));
    }
  }
}

INLINE void product_of_panel(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                             size_t first_row, size_t row_count, size_t tile, size_t end, bool gelu,
                             void *y, nibble_float y_type, size_t y_stride, float *sums,
                             int tiles) {
  size_t groups = layer->in / GROUP;
  // Spread evenly over the tiles of rows.
  size_t lines = BLOCK_GROUPS * GROUP_BYTES / 64 / (row_count / PRODUCT_ROWS + 1) + 1;
  for (size_t first = 0; first < groups; first += BLOCK_GROUPS) {
    size_t last = first + BLOCK_GROUPS < groups ? first + BLOCK_GROUPS : groups;
    size_t line = 0;
    EACH_ROWS(first_row, row_count, row, ROWS,
              prefetch_codes(layer, tile, last, line, lines, tiles);
              line += lines; add_groups(layer, x, row, tile, first, last,
                                        sums + (row - first_row) * PANEL_OUTPUTS, ROWS, tiles))
  }
  EACH_ROWS(first_row, row_count, row, ROWS,
            FOR_TYPE(y_type, TYPE,
                     finish(layer, x, row, tile, sums + (row - first_row) * PANEL_OUTPUTS, gelu, y,
                            TYPE, y_stride, end, ROWS, tiles)))
}

static void quantized_product(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                              size_t first_row, size_t row_count, size_t first_output,
                              size_t output_count, bool gelu, void *y, nibble_float y_type,
                              size_t y_stride, void *scratch) {
  size_t end = first_output + output_count, output = first_output;
  while (output + (PRODUCT_TILES - 1) * TILE_OUTPUTS < end) {
    product_of_panel(layer, x, first_row, row_count, output / TILE_OUTPUTS, end, gelu, y, y_type,
                     y_stride, scratch, PRODUCT_TILES);
    output += PRODUCT_TILES * TILE_OUTPUTS;
  }
  if (output < end) {
    product_of_panel(layer, x, first_row, row_count, output / TILE_OUTPUTS, end, gelu, y, y_type,
                     y_stride, scratch, 1);
  }
}

#endif
