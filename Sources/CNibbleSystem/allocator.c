#include <stdlib.h>  // Tells which C library this is.

#include "nibble_allocator.h"
#if defined(__GLIBC__)
#include <malloc.h>
#endif

void nibble_keep_freed_memory(void) {
#if defined(__GLIBC__)
  mallopt(M_ARENA_MAX, 1);
  // The largest that the library takes: what is beyond is mapped and unmapped each time.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  // More than the packed operands of FLUX.1's products on many threads.
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}
