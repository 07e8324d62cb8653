// Advanced SIMD, which every 64-bit Arm processor has, and the table of its dot products, which
// differs in 4-bit layers only. Thirty-two registers: a tile of 6 by 4.
#if defined(__aarch64__)

#include "../tables.h"
#include "neondot.h"

#define WIDTH 4
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define BRANCH_ROWS 4
#define BRANCH_VECTORS 4

#include "../vector/table.h"
#include "neon_quantized.h"

const nibble_kernels nibble_neon_table = {
    .isa = NIBBLE_ISA_NEON,
    .name = "neon",
    .attention_bf16 = ATTENTION_BF16,
    .quantized_product = quantized_product,
    VECTOR_FUNCTIONS,
};

const nibble_kernels nibble_neondot_table = {
    .isa = NIBBLE_ISA_NEONDOT,
    .name = "neondot",
    .attention_bf16 = ATTENTION_BF16,
    .quantized_product = nibble_neondot_quantized_product,
    VECTOR_FUNCTIONS,
};

#endif
