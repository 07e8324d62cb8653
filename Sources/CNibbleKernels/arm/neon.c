// Advanced SIMD, which every 64-bit Arm processor has, and the tables of its dot and matrix
// products of bytes, which differ in 4-bit layers and have attention in bytes. Thirty-two
// registers: a tile of 6 by 4.
#if defined(__aarch64__)

#include "../tables.h"
#include "products.h"

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
    .quantize_rows = quantize_rows,
    .quantized_product = quantized_product,
    VECTOR_FUNCTIONS,
};

const nibble_kernels nibble_neondot_table = {
    .isa = NIBBLE_ISA_NEONDOT,
    .name = "neondot",
    .attention_bf16 = ATTENTION_BF16,
    .attention_int8 = &nibble_neondot_int8_attention,
    .quantize_rows = quantize_rows,
    .quantized_product = nibble_neondot_quantized_product,
    VECTOR_FUNCTIONS,
};

const nibble_kernels nibble_neoni8mm_table = {
    .isa = NIBBLE_ISA_NEONI8MM,
    .name = "neoni8mm",
    .attention_bf16 = ATTENTION_BF16,
    .attention_int8 = &nibble_neondot_int8_attention,
    .quantize_rows = quantize_rows,
    .quantized_product = nibble_neoni8mm_quantized_product,
    VECTOR_FUNCTIONS,
};

#endif
