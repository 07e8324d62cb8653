// The tables and limits of the instruction sets, which kernels.c hands out.
#ifndef NIBBLE_TABLES_H
#define NIBBLE_TABLES_H

#include "nibble_kernels.h"

extern const nibble_kernels nibble_plain_table;
uint64_t nibble_plain_limit(nibble_limit limit, uint64_t iterations);

#if defined(__x86_64__)
extern const nibble_kernels nibble_avx2_table, nibble_avxvnni_table, nibble_avx512_table,
    nibble_avx512bf16_table;
uint64_t nibble_avx2_limit(nibble_limit limit, uint64_t iterations);
uint64_t nibble_avxvnni_limit(nibble_limit limit, uint64_t iterations);
uint64_t nibble_avx512_limit(nibble_limit limit, uint64_t iterations);
uint64_t nibble_avx512bf16_limit(nibble_limit limit, uint64_t iterations);
#elif defined(__aarch64__)
extern const nibble_kernels nibble_neon_table, nibble_neondot_table, nibble_neoni8mm_table;
uint64_t nibble_neon_limit(nibble_limit limit, uint64_t iterations);
uint64_t nibble_neondot_limit(nibble_limit limit, uint64_t iterations);
uint64_t nibble_neoni8mm_limit(nibble_limit limit, uint64_t iterations);
#endif

#endif
