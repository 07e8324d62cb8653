// Sums of all groups for the instruction sets that work one tile of outputs at once, and one group
// after the other.
#ifndef NIBBLE_VECTOR_GROUP_BY_GROUP_H
#define NIBBLE_VECTOR_GROUP_BY_GROUP_H

#include "quantized_product.h"

_Static_assert(PRODUCT_TILES == 1, "sum_group knows of one tile");

/// Exact sums of one group.
INLINE void sum_group(const group_operands *x, ints sums[PRODUCT_ROWS][VECTORS_OF_TILE]);

INLINE void sum_groups(const product *p, size_t row, size_t tile,
                       floats sums[PRODUCT_ROWS][PRODUCT_VECTORS], int tiles) {
  (void)tiles;
  group_operands x = operands_of(p, row, tile, 0);
  for (size_t left = p->layer->in / GROUP; left > 0; left--, x = next_group(x)) {
    ints exact[PRODUCT_ROWS][VECTORS_OF_TILE];
    sum_group(&x, exact);
    UNROLL for (int v = 0; v < VECTORS_OF_TILE; v++) {
      floats scale = load(x.weight_scales, NIBBLE_BF16, v * WIDTH);
      UNROLL for (int r = 0; r < PRODUCT_ROWS; r++) {
        floats sum = __builtin_convertvector(exact[r][v], floats);
        sums[r][v] = multiply_add(sum, scale * broadcast(x.scales[r]), sums[r][v]);
      }
    }
  }
}

#endif
