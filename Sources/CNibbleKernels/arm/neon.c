// Advanced SIMD, which every 64-bit Arm processor has. Thirty-two registers: a tile of 6 by 4.
#if defined(__aarch64__)

#include "../tables.h"

#define WIDTH 4
#define TILE_ROWS 6
#define TILE_VECTORS 4

#include "../vector/table.h"

const nibble_kernels nibble_neon_table = {
    .isa = NIBBLE_ISA_NEON,
    .name = "neon",
    .attention_bf16 = ATTENTION_BF16,
    VECTOR_FUNCTIONS,
};

#endif
