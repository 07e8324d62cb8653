#include "nibble_kernels.h"
#include "tables.h"

bool nibble_isa_supported(nibble_isa isa) {
  return isa == NIBBLE_ISA_PLAIN;
}

const nibble_kernels *nibble_kernels_for(nibble_isa isa) {
  return isa == NIBBLE_ISA_PLAIN ? &nibble_plain_table : NULL;
}

uint64_t nibble_run_limit(nibble_isa isa, nibble_limit limit, uint64_t iterations) {
  return isa == NIBBLE_ISA_PLAIN ? nibble_plain_limit(limit, iterations) : 0;
}
