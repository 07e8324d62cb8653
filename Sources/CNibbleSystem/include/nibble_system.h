// Shims over C libraries that Swift cannot call directly.
#ifndef NIBBLE_SYSTEM_H
#define NIBBLE_SYSTEM_H
#include "nibble_allocator.h"
#include "nibble_lapack.h"
#include "nibble_onednn.h"
#include "nibble_png.h"
#endif
