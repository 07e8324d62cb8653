// Arrays for tests: they end at a page which nobody may touch, and what lies before them must not
// change.
#ifndef NIBBLE_TEST_MEMORY_H
#define NIBBLE_TEST_MEMORY_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nibble_kernels.h"

/// Rows of one type; all bytes, those between the rows too, are 0xff at first: NaN in every type.
typedef struct array {
  uint8_t *start;
  size_t rows, columns, stride, bytes;
  nibble_float type;
  uint8_t *mapping;
  size_t mapped;
} array;

static inline size_t element_bytes(nibble_float type) {
  return type == NIBBLE_F32 ? 4 : type == NIBBLE_F8E4M3 ? 1 : 2;
}

/// The last element lies at the page, but for up to `alignment` bytes.
static inline array make_bytes(size_t bytes, size_t alignment) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  size_t body = (rounded + 64 + page - 1) / page * page;
  array made = {.bytes = bytes, .mapped = body + page};
  made.mapping =
      mmap(NULL, made.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (made.mapping == MAP_FAILED || mprotect(made.mapping + body, page, PROT_NONE) != 0) abort();
  memset(made.mapping, 0xff, body);
  made.start = made.mapping + body - rounded;
  return made;
}

static inline array make(size_t rows, size_t columns, size_t stride, nibble_float type) {
  array made = make_bytes(((rows - 1) * stride + columns) * element_bytes(type), 1);
  made.rows = rows, made.columns = columns, made.stride = stride, made.type = type;
  return made;
}

static inline void dispose(array x) {
  munmap(x.mapping, x.mapped);
}

static inline float get(array x, size_t row, size_t column) {
  size_t index = row * x.stride + column;
  if (x.type == NIBBLE_F32) return ((float *)x.start)[index];
  uint32_t bits = (uint32_t)((uint16_t *)x.start)[index] << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/// Even numbers in -scale ..< scale (SplitMix64).
static inline float random_number(float scale) {
  static uint64_t random_state;
  uint64_t x = random_state += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return scale * ((float)((x ^ x >> 31) >> 40) * 0x1p-23f - 1);
}

/// f32 or bf16; a bf16 number is cut from an f32, which keeps it in range.
static inline array make_random(size_t rows, size_t columns, size_t stride, nibble_float type,
                                float scale) {
  array made = make(rows, columns, stride, type);
  for (size_t row = 0; row < rows; row++) {
    for (size_t column = 0; column < columns; column++) {
      float value = random_number(scale);
      uint32_t bits;
      memcpy(&bits, &value, sizeof bits);
      size_t index = row * stride + column;
      if (type == NIBBLE_F32) {
        ((float *)made.start)[index] = value;
      } else {
        ((uint16_t *)made.start)[index] = (uint16_t)(bits >> 16);
      }
    }
  }
  return made;
}

static inline array copy_of(array x) {
  array made = make(x.rows, x.columns, x.stride, x.type);
  memcpy(made.start, x.start, x.bytes);
  return made;
}

/// Whether nothing was written before the array or between its rows.
static inline bool is_intact(array x) {
  for (int i = 1; i <= 64; i++) {
    if (x.start[-i] != 0xff) return false;
  }
  for (size_t row = 0; row + 1 < x.rows; row++) {
    uint8_t *gap = x.start + (row * x.stride + x.columns) * element_bytes(x.type);
    for (size_t i = 0; i < (x.stride - x.columns) * element_bytes(x.type); i++) {
      if (gap[i] != 0xff) return false;
    }
  }
  return true;
}

#endif
