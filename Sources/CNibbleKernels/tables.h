// The tables and limits of the instruction sets, which kernels.c hands out.
#ifndef NIBBLE_TABLES_H
#define NIBBLE_TABLES_H

#include "nibble_kernels.h"

extern const nibble_kernels nibble_plain_table;
uint64_t nibble_plain_limit(nibble_limit limit, uint64_t iterations);

#endif
