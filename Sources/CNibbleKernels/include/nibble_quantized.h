// 4-bit linear layers: the order of their weights in memory and in the CPU's own files, and the
// forms of quantized activations. The functions are in the table of nibble_kernels.h.
//
// The layer (SVDQuant, arXiv 2411.05007, equation 5): y = Q(x / smooth) Wᵀ + (x downᵀ) upᵀ + bias,
// with W = code · scale, one scale for each output and group of 64 inputs.
//
// The order of the weights is the same for every instruction set:
//
// - codes: unsigned nibbles, the signed code + 8 (W4A4) or the stored code (W4A16). Sixteen outputs
//   by eight inputs are 64 bytes: inputs 0 ... 3 of the eight in the low halves, 4 ... 7 in the
//   high. Input k of output n is in byte
//     ((n / 16) · (in / 8) + k / 8) · 64 + 4 · (n % 16) + k % 4,
//   in its low half if k % 8 < 4. `out` is padded to a multiple of 16 with outputs of code 8.
// - scales, zeros: bf16, of output n and group g at ((n / 16) · (in / 64) + g) · 16 + n % 16;
//   padding outputs have 0.
// - up: bf16, of output n and rank r at ((n / 16) · padded + r) · 16 + n % 16, where `padded` is
//   the rank padded to a multiple of 16 with zeros.
// - down: bf16, of rank r and input k at ((k / 2) · padded + r) · 2 + k % 2.
//
// All start at multiples of 64 bytes.
#ifndef NIBBLE_QUANTIZED_H
#define NIBBLE_QUANTIZED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// Tables are constants, and shapes point at what is only read or at what each thread has for
/// itself: Swift may share them between threads.
#define NIBBLE_SENDABLE __attribute__((swift_attr("@Sendable")))

enum {
  NIBBLE_GROUP = 64,          ///< inputs that share a scale
  NIBBLE_TILE_OUTPUTS = 16,   ///< outputs that lie together
  NIBBLE_RANK_MULTIPLE = 16,  ///< what a rank is padded to
  NIBBLE_TILE_ROWS = 12       ///< quantized rows that lie together: whole tiles of every kernel
};

/// What activations are quantized to. A group's largest magnitude sets its scale.
typedef enum nibble_activation_codes {
  /// -7 ... 7, scale absmax / 7 stored as bf16
  NIBBLE_CODES_S4 = 0,
  /// 0 ... 15 of x + 0.171875, which is not negative after GELU; scale absmax / 15 stored as bf16
  NIBBLE_CODES_U4 = 1,
  /// -127 ... 127, scale absmax / 127 in f32
  NIBBLE_CODES_S8 = 2,
  /// The same of x + 0.171875, for a layer whose bias has that shift folded in.
  NIBBLE_CODES_S8_SHIFTED = 3,
  /// -112 ... 112, scale absmax / 112 in f32: room for the sums of nibble_paired_product
  NIBBLE_CODES_S8_PAIRED = 4
} nibble_activation_codes;

/// A W4A4 layer. `in` is a multiple of 64; arrays are in the order above.
typedef struct NIBBLE_SENDABLE nibble_quantized_layer {
  size_t in, out;
  size_t rank;  ///< a multiple of 16; 0: no low-rank branch
  const uint8_t *codes;
  const uint16_t *scales;
  const float *_Nullable smooth;  ///< [in], divides the input; NULL: 1
  const uint16_t *_Nullable down;
  const uint16_t *_Nullable up;
  const float *_Nullable bias;  ///< [out]; NULL: 0
} nibble_quantized_layer;

/// Quantized rows in tiles of 12, one behind the other, and within a tile group by group: what is
/// worked together lies together. The last tile has room for 12 rows however few it holds; what
/// lies in that room is read, but nothing comes of it.
typedef struct NIBBLE_SENDABLE nibble_quantized_rows {
  int8_t *codes;  ///< [⌈rows / 12⌉, in / 64, 12, 64], aligned to 64 bytes
  float *scales;  ///< [⌈rows / 12⌉, in / 64, 12]
  int32_t *starts;  ///< [⌈rows / 12⌉, in / 64, 12]: -8 times the sum of the codes, what the + 8 of
                    ///< the weights adds too much
  float *branch;  ///< [⌈rows / 12⌉, 12, rank]: x downᵀ
  /// As `starts`, for nibble_paired_product; NULL: products are not in pairs.
  int32_t *_Nullable pair_starts;
} nibble_quantized_rows;

/// Where the scale of a row's group is; its codes are at 64 times that.
static inline size_t nibble_index_of_group(size_t in, size_t row, size_t group) {
  size_t tile = row / NIBBLE_TILE_ROWS, groups = in / NIBBLE_GROUP;
  return (tile * groups + group) * NIBBLE_TILE_ROWS + row % NIBBLE_TILE_ROWS;
}

/// Bytes of each packed array.
size_t nibble_packed_codes_bytes(size_t in, size_t out);
size_t nibble_packed_scales_bytes(size_t in, size_t out);
size_t nibble_packed_up_bytes(size_t out, size_t rank);
size_t nibble_packed_down_bytes(size_t in, size_t rank);

/// codes [out, in], -8 ... 7 with an offset of 8, or 0 ... 15 with an offset of 0 -> packed. Tiles
/// of 16 outputs lie one behind the other: threads may each pack some of them.
void nibble_pack_codes(const int8_t *codes, int offset, size_t in, size_t out, uint8_t *packed);
/// The inverse.
void nibble_unpack_codes(const uint8_t *packed, int offset, size_t in, size_t out, int8_t *codes);
/// scales [out, in / 64] bf16 -> packed.
void nibble_pack_scales(const uint16_t *scales, size_t in, size_t out, uint16_t *packed);
/// The inverse.
void nibble_unpack_scales(const uint16_t *packed, size_t in, size_t out, uint16_t *scales);
/// up [out, rank] bf16 -> packed.
void nibble_pack_up(const uint16_t *up, size_t out, size_t rank, uint16_t *packed);
/// The inverse.
void nibble_unpack_up(const uint16_t *packed, size_t out, size_t rank, uint16_t *up);
/// down [rank, in] bf16 -> packed.
void nibble_pack_down(const uint16_t *down, size_t in, size_t rank, uint16_t *packed);
/// The inverse.
void nibble_unpack_down(const uint16_t *packed, size_t in, size_t rank, uint16_t *down);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
