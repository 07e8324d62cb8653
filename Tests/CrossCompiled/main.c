// Every instruction set of the processor that this runs on, or that an emulator shows, against
// plain C. The Swift tests compare with float64 and go over more cases; this is for processors on
// which no Swift runs.
#include <stdio.h>

#include "check.h"

static void test_limits(void) {
  for (nibble_limit limit = NIBBLE_LIMIT_INT8; limit <= NIBBLE_LIMIT_F32; limit++) {
    uint64_t once = nibble_run_limit(tested->isa, limit, 1);
    expect("limit", limit, nibble_run_limit(tested->isa, limit, 100) == 100 * once);
  }
}

int main(void) {
  plain = nibble_kernels_for(NIBBLE_ISA_PLAIN);
  for (nibble_isa isa = NIBBLE_ISA_PLAIN + 1; isa < NIBBLE_ISA_COUNT; isa++) {
    tested = nibble_kernels_for(isa);
    if (!tested) continue;
    printf("testing %s\n", tested->name);
    test_attention_kernels();
    test_row_kernels();
    test_quantized_kernels();
    test_solver_kernels();
    test_limits();
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0;
}
