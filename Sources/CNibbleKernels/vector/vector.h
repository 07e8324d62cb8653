// Vectors of WIDTH floats in clang's vector extensions, for the files in this folder: an
// instruction set's file sets its target, defines WIDTH and includes them, so that each gets its
// own copy in its own instructions.
#ifndef NIBBLE_VECTOR_H
#define NIBBLE_VECTOR_H

#include <float.h>
#include <math.h>

#include "../scalar.h"

#ifndef WIDTH
#error "define WIDTH, the number of floats in a vector"
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

typedef float floats __attribute__((vector_size(WIDTH * 4)));
typedef uint32_t uints __attribute__((vector_size(WIDTH * 4)));
typedef int32_t ints __attribute__((vector_size(WIDTH * 4)));
typedef uint16_t halves __attribute__((vector_size(WIDTH * 2)));
typedef uint8_t bytes __attribute__((vector_size(WIDTH)));
typedef _Float16 float16s __attribute__((vector_size(WIDTH * 2)));

// Arrays have the alignment of their elements only, and any element type may be read as another.
typedef floats floats_in_memory __attribute__((aligned(4), may_alias));
typedef halves halves_in_memory __attribute__((aligned(2), may_alias));
typedef bytes bytes_in_memory __attribute__((aligned(1), may_alias));

/// A scalar operand is broadcast, and x - 0 is x for every x, so that nothing else is left to do
/// (-0 + 0 would be 0).
INLINE floats broadcast(float value) {
  return value - (floats){};
}

/// Without the library's error for negative numbers, whose test would be a call in the midst of a
/// loop.
INLINE float square_root(float x) {
  return __builtin_elementwise_sqrt(x);
}

/// mask ? x : y, lane by lane; a mask is what a comparison gives: all bits or none.
INLINE floats choose(ints mask, floats x, floats y) {
  return (floats)(((uints)mask & (uints)x) | (~(uints)mask & (uints)y));
}

/// The greater; y where either is NaN.
INLINE floats greater(floats x, floats y) {
  return choose(x > y, x, y);
}

/// The lesser; y where either is NaN.
INLINE floats lesser(floats x, floats y) {
  return choose(x < y, x, y);
}

INLINE floats multiply_add(floats x, floats y, floats z) {
  return __builtin_elementwise_fma(x, y, z);
}

INLINE floats floats_of_bf16(halves x) {
  return (floats)(__builtin_convertvector(x, uints) << 16);
}

/// As nibble_bf16_of_float.
INLINE halves bf16_of_floats(floats x) {
  uints bits = (uints)x;
  uints nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  uints quiet = bits >> 16 | 0x0040;
  uints is_nan = (uints)(x != x);
  return __builtin_convertvector((is_nan & quiet) | (~is_nan & nearest), halves);
}

/// E4M3 has the exponent and fraction of a binary16 moved by 7 bits, but for a bias that is smaller
/// by 8.
INLINE floats floats_of_f8e4m3(bytes x) {
  halves wide = __builtin_convertvector(x, halves);
  halves magnitude = wide & 0x7f;
  halves is_nan = (halves)(magnitude == 0x7f);
  halves bits = magnitude << 7 | (is_nan & 0x7e00) | (wide & 0x80) << 8;
  return __builtin_convertvector((float16s)bits, floats) * 256;
}

/// WIDTH elements from `index` on. `type` should be a constant where it is called.
INLINE floats load(const void *x, nibble_float type, size_t index) {
  switch (type) {
    case NIBBLE_F32:
      return *(const floats_in_memory *)((const float *)x + index);
    case NIBBLE_BF16:
      return floats_of_bf16(*(const halves_in_memory *)((const uint16_t *)x + index));
    case NIBBLE_F16:
      return __builtin_convertvector(
          (float16s)(*(const halves_in_memory *)((const uint16_t *)x + index)), floats);
    case NIBBLE_F8E4M3:
      return floats_of_f8e4m3(*(const bytes_in_memory *)((const uint8_t *)x + index));
  }
}

INLINE void store(void *y, nibble_float type, size_t index, floats value) {
  if (type == NIBBLE_F32) {
    *(floats_in_memory *)((float *)y + index) = value;
  } else {
    *(halves_in_memory *)((uint16_t *)y + index) = bf16_of_floats(value);
  }
}

/// The first `count` < WIDTH elements from `index` on, and zeros.
INLINE floats load_some(const void *x, nibble_float type, size_t index, size_t count) {
  uint32_t elements[WIDTH] = {0};
  size_t element_bytes = nibble_float_bytes(type);
  const uint8_t *source = (const uint8_t *)x + index * element_bytes;
  for (size_t i = 0; i < count * element_bytes; i++) ((uint8_t *)elements)[i] = source[i];
  return load(elements, type, 0);
}

INLINE void store_some(void *y, nibble_float type, size_t index, size_t count, floats value) {
  uint32_t elements[WIDTH];
  size_t element_bytes = nibble_float_bytes(type);
  uint8_t *target = (uint8_t *)y + index * element_bytes;
  store(elements, type, 0, value);
  for (size_t i = 0; i < count * element_bytes; i++) target[i] = ((uint8_t *)elements)[i];
}

/// All or some of WIDTH elements.
INLINE floats load_part(const void *x, nibble_float type, size_t index, size_t count) {
  return count == WIDTH ? load(x, type, index) : load_some(x, type, index, count);
}

INLINE void store_part(void *y, nibble_float type, size_t index, size_t count, floats value) {
  if (count == WIDTH) {
    store(y, type, index, value);
  } else {
    store_some(y, type, index, count, value);
  }
}

/// Runs a block for every vector of n elements: it starts at `index` and has `count` elements,
/// WIDTH but for the last. The block is there twice, so that `count` is a constant where it
/// matters.
#define EACH_VECTOR(n, index, count, ...)          \
  {                                                \
    size_t index = 0;                              \
    for (; index + WIDTH <= (n); index += WIDTH) { \
      const size_t count = WIDTH;                  \
      __VA_ARGS__                                  \
    }                                              \
    if (index < (n)) {                             \
      const size_t count = (n)-index;              \
      __VA_ARGS__                                  \
    }                                              \
  }

// The element types must be constants inside a loop, or every load would ask for them.
#define FOR_TYPE(type, TYPE, ...)            \
  switch (type) {                            \
    case NIBBLE_F32: {                       \
      const nibble_float TYPE = NIBBLE_F32;  \
      __VA_ARGS__;                           \
      break;                                 \
    }                                        \
    default: {                               \
      const nibble_float TYPE = NIBBLE_BF16; \
      __VA_ARGS__;                           \
    }                                        \
  }

// Lanes of the first or last halves of two vectors, in turn.
#if WIDTH == 16
#define FIRST_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LAST_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif WIDTH == 8
#define FIRST_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define LAST_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FIRST_HALVES 0, 4, 1, 5
#define LAST_HALVES 2, 6, 3, 7
#endif

/// Adds the lanes of the first half to those of the last until one is left: the order is that of
/// the width.
INLINE float sum_of_lanes(floats x) {
  UNROLL for (int lanes = WIDTH; lanes > 1; lanes /= 2) {
    x = __builtin_shufflevector(x, x, FIRST_HALVES) + __builtin_shufflevector(x, x, LAST_HALVES);
  }
  return x[0];
}

INLINE float greatest_lane(floats x) {
  UNROLL for (int lanes = WIDTH; lanes > 1; lanes /= 2) {
    x = greater(__builtin_shufflevector(x, x, FIRST_HALVES),
                __builtin_shufflevector(x, x, LAST_HALVES));
  }
  return x[0];
}

/// Lane i of vector j becomes lane j of vector i. Each round puts vectors that are half of all
/// apart into turn, which moves the upper bit of a vector's number to the bottom of its lanes'
/// numbers.
INLINE void transpose(uints x[WIDTH]) {
  UNROLL for (int round = 1; round < WIDTH; round *= 2) {
    uints y[WIDTH];
    UNROLL for (int i = 0; i < WIDTH / 2; i++) {
      y[2 * i] = __builtin_shufflevector(x[i], x[i + WIDTH / 2], FIRST_HALVES);
      y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + WIDTH / 2], LAST_HALVES);
    }
    UNROLL for (int i = 0; i < WIDTH; i++) x[i] = y[i];
  }
}

typedef enum fold { GREATEST, SUM, SUM_OF_FLOATS } fold;

/// Lane i becomes the fold of the lanes of row i.
INLINE ints fold_rows(const ints rows[WIDTH], fold kind) {
  ints x[WIDTH];
  UNROLL for (int i = 0; i < WIDTH; i++) x[i] = rows[i];
  UNROLL for (int n = WIDTH / 2; n >= 1; n /= 2) {
    UNROLL for (int i = 0; i < n; i++) {
      ints first = __builtin_shufflevector(x[i], x[i + n], FIRST_HALVES);
      ints last = __builtin_shufflevector(x[i], x[i + n], LAST_HALVES);
      if (kind == GREATEST) {
        x[i] = __builtin_elementwise_max(first, last);
      } else if (kind == SUM) {
        x[i] = first + last;
      } else {
        x[i] = (ints)((floats)first + (floats)last);
      }
    }
  }
  return x[0];
}

#endif
