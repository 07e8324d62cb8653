// One float at a time: the definitions that every instruction set must agree with.
#ifndef NIBBLE_SCALAR_H
#define NIBBLE_SCALAR_H

#include <string.h>

#include "nibble_kernels.h"

static inline float nibble_float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t nibble_bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float nibble_float_of_bf16(uint16_t value) {
  return nibble_float_of_bits((uint32_t)value << 16);
}

/// To nearest, ties to even. A NaN is made quiet, so that dropping its lower half cannot make it
/// infinite.
static inline uint16_t nibble_bf16_of_float(float value) {
  uint32_t bits = nibble_bits_of_float(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x0040);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// IEEE binary16. Exponent and fraction are moved to their places in binary32 and the difference of
/// the biases is multiplied in, which also normalizes subnormal numbers; infinity and NaN get the
/// full exponent of binary32.
static inline float nibble_float_of_f16(uint16_t value) {
  uint32_t bits = (uint32_t)(value & 0x7fff) << 13;
  bits = nibble_bits_of_float(nibble_float_of_bits(bits) * 0x1p112f);
  if ((value & 0x7c00) == 0x7c00) bits |= 0x7f800000;
  return nibble_float_of_bits(bits | (uint32_t)(value & 0x8000) << 16);
}

/// E4M3 of the OCP 8-bit floating point specification 1.0, section 5: bias 7, no infinity, NaN is
/// 0x7f and 0xff.
static inline float nibble_float_of_f8e4m3(uint8_t value) {
  uint32_t magnitude = value & 0x7f;
  uint32_t bits = nibble_bits_of_float(nibble_float_of_bits(magnitude << 20) * 0x1p120f);
  if (magnitude == 0x7f) bits = 0x7fc00000;
  return nibble_float_of_bits(bits | (uint32_t)(value & 0x80) << 24);
}

/// Element `index` of an array.
static inline float nibble_load(const void *x, nibble_float type, size_t index) {
  switch (type) {
    case NIBBLE_F32:
      return ((const float *)x)[index];
    case NIBBLE_BF16:
      return nibble_float_of_bf16(((const uint16_t *)x)[index]);
    case NIBBLE_F16:
      return nibble_float_of_f16(((const uint16_t *)x)[index]);
    case NIBBLE_F8E4M3:
      return nibble_float_of_f8e4m3(((const uint8_t *)x)[index]);
  }
}

/// Sets element `index` of an f32 or bf16 array.
static inline void nibble_store(void *y, nibble_float type, size_t index, float value) {
  if (type == NIBBLE_F32) {
    ((float *)y)[index] = value;
  } else {
    ((uint16_t *)y)[index] = nibble_bf16_of_float(value);
  }
}

/// Bytes of one element.
static inline size_t nibble_float_bytes(nibble_float type) {
  return type == NIBBLE_F32 ? 4 : type == NIBBLE_F8E4M3 ? 1 : 2;
}

/// Where row `row` of an array starts; the stride counts elements.
static inline const void *nibble_row(const void *x, nibble_float type, size_t stride, size_t row) {
  return (const uint8_t *)x + row * stride * nibble_float_bytes(type);
}

/// The same for an array that is written.
static inline void *nibble_mutable_row(void *x, nibble_float type, size_t stride, size_t row) {
  return (uint8_t *)x + row * stride * nibble_float_bytes(type);
}

#endif
