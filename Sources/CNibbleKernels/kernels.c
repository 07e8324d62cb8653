#include "nibble_kernels.h"

bool nibble_isa_supported(nibble_isa isa) { return false; }
const nibble_kernels *nibble_kernels_for(nibble_isa isa) { return NULL; }
uint64_t nibble_run_limit(nibble_isa isa, nibble_limit limit, uint64_t iterations) { return 0; }
