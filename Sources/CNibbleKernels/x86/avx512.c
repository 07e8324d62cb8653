// AVX-512, and the table of AVX-512 BF16, which differs in attention and quantization of bf16
// arrays only.
#if defined(__x86_64__)

#include "../tables.h"
#include "avx512bf16.h"
#include "avx512vnni.h"

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,f16c"))), apply_to = function)

#define WIDTH 16
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define BRANCH_ROWS 6
#define BRANCH_VECTORS 2

#include "../vector/table.h"

const nibble_kernels nibble_avx512_table = {
    .isa = NIBBLE_ISA_AVX512,
    .name = "avx512",
    .attention_bf16 = ATTENTION_BF16,
    .attention_int8 = &nibble_avx512vnni_int8_attention,
    .quantize_rows = quantize_rows,
    .quantized_product = nibble_avx512vnni_quantized_product,
    .paired_product = &nibble_avx512vnni_paired_product,
    VECTOR_FUNCTIONS,
};

const nibble_kernels nibble_avx512bf16_table = {
    .isa = NIBBLE_ISA_AVX512BF16,
    .name = "avx512bf16",
    .attention_bf16 = {NIBBLE_AVX512BF16_QUERY_BLOCK, nibble_avx512bf16_attention_packed_bytes,
                       nibble_avx512bf16_attention_scratch_bytes, nibble_avx512bf16_attention_pack,
                       nibble_avx512bf16_attention_run},
    .attention_int8 = &nibble_avx512vnni_int8_attention,
    .quantize_rows = nibble_avx512bf16_quantize_rows,
    .quantized_product = nibble_avx512bf16_quantized_product,
    .paired_product = &nibble_avx512bf16_paired_product,
    VECTOR_FUNCTIONS,
};

#pragma clang attribute pop

#endif
