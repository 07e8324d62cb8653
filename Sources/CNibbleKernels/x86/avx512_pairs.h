// The paired product. A Zen 4 or 5 multiplies in two of its vector units and adds in
// four, so that three instructions for 128 multiply-adds, two of them additions, take three
// quarters of the time of two VPDPBUSD.
#ifndef NIBBLE_AVX512_PAIRS_H
#define NIBBLE_AVX512_PAIRS_H

#include "avx512_quantized.h"

enum {
  STEPS = GROUP / 8,
  /// Groups worked before the next ones: unpacked, 96 outputs of so many fill a third of a second
  /// cache of 1 MiB, and a tile's codes less than half of the first.
  PAIR_GROUPS = 48,
  UNPACK_AHEAD = 4096,  ///< bytes of packed weights that are fetched before they are unpacked
};

/// The weights of one group and 16 outputs. Of a step's eight inputs the low ones are c, the high
/// ones d in nibble_paired_product's formula.
typedef struct pair_weights {
  struct {
    uint8_t low[64];
    uint8_t high[64];  ///< + 112, so that no sum with an activation is negative
  } steps[STEPS];
  int32_t starts[TILE_OUTPUTS];  ///< what the weights alone add too much
} pair_weights;

/// A call, and the groups that it works at the moment.
typedef struct paired_call {
  product product;
  size_t first_row, first_tile, end_tile;
  size_t first_group, end_group;
  pair_weights *weights;  ///< [tiles][PAIR_GROUPS]
  float *sums;            ///< [rows][tiles][16], of the groups before these
} paired_call;

static size_t pair_scratch_bytes(size_t in, size_t rows, size_t outputs) {
  size_t tiles = (outputs + TILE_OUTPUTS - 1) / TILE_OUTPUTS, groups = in / GROUP;
  size_t sums = groups > PAIR_GROUPS ? (rows + PRODUCT_ROWS) * tiles * TILE_OUTPUTS : 0;
  return tiles * PAIR_GROUPS * sizeof(pair_weights) + sums * sizeof(float);
}

/// Of whole tiles of rows. The offset of the high weights adds 112 b too much, together with ab:
/// (a + 112) b.
static void fill_pair_starts(size_t in, const nibble_quantized_rows *x, size_t first,
                             size_t count) {
  _Static_assert(NIBBLE_TILE_ROWS <= WIDTH, "a lane for each row of a tile");
  const __m512i offset = _mm512_set1_epi8(112);
  const __mmask16 rows = (1 << NIBBLE_TILE_ROWS) - 1;
  for (size_t row = first; row < first + count; row += NIBBLE_TILE_ROWS) {
    for (size_t group = 0; group < in / GROUP; group++) {
      size_t index = nibble_index_of_group(in, row, group);
      ints sums[WIDTH] = {};
      UNROLL for (int r = 0; r < NIBBLE_TILE_ROWS; r++) {
        __m512i codes = _mm512_loadu_si512(x->codes + (index + (size_t)r) * GROUP);
        // b in the place of a, and zeros in its own.
        __m512i high = _mm512_srli_epi64(codes, 32);
        sums[r] = (ints)_mm512_dpbusd_epi32((__m512i)sums[r], _mm512_add_epi8(codes, offset), high);
      }
      __m512i starts = _mm512_maskz_loadu_epi32(rows, x->starts + index);
      starts = _mm512_sub_epi32(starts, (__m512i)fold_rows(sums, SUM));
      _mm512_mask_storeu_epi32(x->pair_starts + index, rows, starts);
    }
  }
}

static void unpack_group(const uint8_t *packed, pair_weights *to) {
  const __m512i low_half = _mm512_set1_epi8(15), offset = _mm512_set1_epi8(112);
  __m512i sum = _mm512_setzero_si512();
  for (int step = 0; step < STEPS; step++) {
    // The processor's own looking ahead is not enough; beyond the last weights it is a hint without
    // effect.
    __builtin_prefetch((void *)((uintptr_t)packed + step * 64 + UNPACK_AHEAD));
    __m512i both = _mm512_loadu_si512(packed + step * 64);
    __m512i low = _mm512_and_si512(both, low_half);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half);
    high = _mm512_add_epi8(high, offset);
    _mm512_store_si512(to->steps[step].low, low);
    _mm512_store_si512(to->steps[step].high, high);
    sum = _mm512_dpbusd_epi32(sum, high, low);
  }
  _mm512_store_si512(to->starts, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
}

/// Unpacks the weights of the call's tiles and groups.
static void unpack_weights(const paired_call *call) {
  const nibble_quantized_layer *layer = call->product.layer;
  for (size_t tile = call->first_tile; tile < call->end_tile; tile++) {
    const uint8_t *packed = layer->codes + tile * (layer->in / GROUP) * GROUP_BYTES;
    pair_weights *to = call->weights + (tile - call->first_tile) * PAIR_GROUPS;
    for (size_t group = call->first_group; group < call->end_group; group++, to++) {
      unpack_group(packed + group * GROUP_BYTES, to);
    }
  }
}

/// Adds the products of eight inputs.
INLINE void add_pairs(const int8_t *codes, const pair_weights *weights, int step,
                      ints exact[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  __m512i low[PRODUCT_TILES], high[PRODUCT_TILES];
  UNROLL for (int tile = 0; tile < tiles; tile++) {
    low[tile] = _mm512_load_si512(weights[tile * PAIR_GROUPS].steps[step].low);
    high[tile] = _mm512_load_si512(weights[tile * PAIR_GROUPS].steps[step].high);
  }
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    // Loads stay in their row: moved ahead of it, they would push sums out of their registers.
    __asm__ volatile("" ::: "memory");
    int32_t first, second;
    memcpy(&first, codes + row * GROUP + step * 8, sizeof first);
    memcpy(&second, codes + row * GROUP + step * 8 + 4, sizeof second);
    __m512i a = _mm512_set1_epi32(first), b = _mm512_set1_epi32(second);
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      exact[row][tile] = (ints)_mm512_dpbusd_epi32(
          (__m512i)exact[row][tile], _mm512_add_epi8(a, high[tile]), _mm512_add_epi8(b, low[tile]));
    }
  }
}

/// What the sums of a group begin with.
INLINE void begin_pairs(const int32_t *starts, const pair_weights *weights,
                        ints exact[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  __m512i of_weights[PRODUCT_TILES];
  UNROLL for (int tile = 0; tile < tiles; tile++) {
    of_weights[tile] = _mm512_load_si512(weights[tile * PAIR_GROUPS].starts);
  }
  UNROLL for (int row = 0; row < PRODUCT_ROWS; row++) {
    __asm__ volatile("" ::: "memory");
    __m512i of_row = _mm512_set1_epi32(starts[row]);
    UNROLL for (int tile = 0; tile < tiles; tile++) {
      exact[row][tile] = (ints)_mm512_add_epi32(of_weights[tile], of_row);
    }
  }
}

/// Adds the call's groups.
INLINE void add_groups(const paired_call *call, size_t row, size_t tile,
                       floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  const pair_weights *weights = call->weights + (tile - call->first_tile) * PAIR_GROUPS;
  const product *p = &call->product;
  group_operands x = operands_of(p, row, tile, call->first_group);
  const int32_t *starts =
      p->x->pair_starts + nibble_index_of_group(p->layer->in, row, call->first_group);
  for (size_t group = call->first_group; group < call->end_group; group++) {
    ints exact[PRODUCT_ROWS][PRODUCT_VECTORS];
    begin_pairs(starts, weights, exact, tiles);
    UNROLL for (int step = 0; step < STEPS; step++) {
      add_pairs(x.codes, weights, step, exact, tiles);
    }
    end_sums(&x, exact, sums, 0, PRODUCT_ROWS, tiles);
    weights++;
    starts += NIBBLE_TILE_ROWS;
    x = next_group(x);
  }
}

/// Works the call's groups, and finishes the outputs after the last ones.
INLINE void add_to_outputs(const paired_call *call, size_t row, size_t tile, int tiles) {
  size_t stride = (call->end_tile - call->first_tile) * TILE_OUTPUTS;
  float *so_far =
      call->sums + (row - call->first_row) * stride + (tile - call->first_tile) * TILE_OUTPUTS;
  floats sums[PRODUCT_ROWS][PRODUCT_VECTORS] = {};
  if (call->first_group > 0) {
    UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
      UNROLL for (int t = 0; t < tiles; t++) {
        sums[r][t] = load(so_far + r * stride, NIBBLE_F32, (size_t)t * TILE_OUTPUTS);
      }
    }
  }
  add_groups(call, row, tile, sums, tiles);
  if (call->end_group == call->product.layer->in / GROUP) {
    finish(&call->product, row, tile, sums, tiles);
    return;
  }
  UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
    UNROLL for (int t = 0; t < tiles; t++) {
      store(so_far + r * stride, NIBBLE_F32, (size_t)t * TILE_OUTPUTS, sums[r][t]);
    }
  }
}

__attribute__((noinline)) static void work_pairs(const paired_call *call, size_t row, size_t tile) {
  add_to_outputs(call, row, tile, PRODUCT_TILES);
}
__attribute__((noinline)) static void work_one_of_pairs(const paired_call *call, size_t row,
                                                        size_t tile) {
  add_to_outputs(call, row, tile, 1);
}

static void paired_product(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                           size_t first_row, size_t row_count, size_t first_output,
                           size_t output_count, const nibble_destination *to, void *scratch) {
  paired_call call = {
      .product = {layer, x, first_row + row_count, first_output, first_output + output_count, to},
      .first_row = first_row,
      .first_tile = first_output / TILE_OUTPUTS,
      .weights = scratch,
  };
  call.end_tile = end_tile_of(&call.product);
  call.sums = (float *)(call.weights + (call.end_tile - call.first_tile) * PAIR_GROUPS);
  // As few chunks of groups as possible, of nearly one size.
  size_t groups = layer->in / GROUP, chunks = (groups + PAIR_GROUPS - 1) / PAIR_GROUPS;
  for (size_t chunk = 0; chunk < chunks; chunk++) {
    call.first_group = groups * chunk / chunks;
    call.end_group = groups * (chunk + 1) / chunks;
    unpack_weights(&call);
    for (size_t row = first_row; row < first_row + row_count; row += PRODUCT_ROWS) {
      size_t tile = call.first_tile;
      for (; tile + PRODUCT_TILES <= call.end_tile; tile += PRODUCT_TILES) {
        work_pairs(&call, row, tile);
      }
      for (; tile < call.end_tile; tile++) work_one_of_pairs(&call, row, tile);
    }
  }
}

#endif
