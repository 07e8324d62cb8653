// AVX2 with FMA and F16C, and the table of AVX-VNNI, which differs in 4-bit layers and has
// attention in bytes. Sixteen registers: a tile of 6 by 2 leaves four for the operands.
#if defined(__x86_64__)

#include "../tables.h"
#include "avxvnni.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define WIDTH 8
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define BRANCH_ROWS 4
#define BRANCH_VECTORS 2

#include "../vector/table.h"
#include "avx2_quantized.h"

const nibble_kernels nibble_avx2_table = {
    .isa = NIBBLE_ISA_AVX2,
    .name = "avx2",
    .attention_bf16 = ATTENTION_BF16,
    .quantize_rows = quantize_rows,
    .quantized_product = quantized_product,
    VECTOR_FUNCTIONS,
};

const nibble_kernels nibble_avxvnni_table = {
    .isa = NIBBLE_ISA_AVXVNNI,
    .name = "avxvnni",
    .attention_bf16 = ATTENTION_BF16,
    .attention_int8 = &nibble_avxvnni_int8_attention,
    .quantize_rows = quantize_rows,
    .quantized_product = nibble_avxvnni_quantized_product,
    VECTOR_FUNCTIONS,
};

#pragma clang attribute pop

#endif
