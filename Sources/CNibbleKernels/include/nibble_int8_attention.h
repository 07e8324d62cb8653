// Attention in bytes: both products multiply bytes and add them exactly in 32 bits.
//
// After SageAttention (J. Zhang and others, arXiv 2410.02367), with the mean of keys subtracted
// block by block, and weights in bytes too. For one head, with keys in blocks of NIBBLE_KEY_BLOCK
// (the last is shorter), in f32 unless said otherwise; rne rounds to nearest, ties to even:
//
//   A vector x becomes bytes by s = absmax(x) / 127, code = rne(x · (127 / absmax(x))). Where 127 /
//   absmax overflows, s and the codes are 0; where absmax is infinite or NaN, s is NaN and so is
//   what is made of it.
//
//   query i:  q codes and s_i;  f_i = s_i · (scale · log2 e).
//   keys of block b:  mean[c] = (sum over keys, ascending) / keys;  k - mean becomes codes with
//     one scale s_b for the block.  values: codes with one scale v_b[c] for each channel c.
//   scores (exact):  S_ij = Σ_c q code · k code.   m_ib = max over the block's keys of S_ij.
//   weights: 255 · 2^-((m_ib - S_ij) f_i s_b) as an unsigned byte, in integers throughout:
//     d = m_ib - S_ij.  t = f_i s_b · 2^11 = g · 2^e / 2^15 with 2^15 <= g < 2^16 (truncated).
//     e < 0:  d' = min(d >> min(-1 - e, 31), 65535)
//     e >= 0: d' = min(min(d, 65536 >> a) << a, 65535), a = min(e + 1, 16)
//     y = d' · g >> 16, that is the exponent in units of 2^-11;  n = y >> 11;  F = (y << 5) mod
//     2^16 T = 65275 - (F (45110 - (F (15019 - (F · 2547 >> 16)) >> 16)) >> 16), about 65280 · 2^-f
//     p_ij = ((T >> n) + 159 j mod 256) >> 8, j the key's number within the block
//     The last summand spreads the rounding evenly: many small weights that were all rounded down
//     would be lost, and with them what most keys say together.
//   M_ib = m_ib f_i s_b + (q_i · mean_b) · (scale · log2 e): log2 of the block's greatest weight.
//   out_i[c] = Σ_b 2^(M_ib - R) v_b[c] Σ_j p_ij v code  /  Σ_b 2^(M_ib - R) Σ_j p_ij
//     R is some M of the row, moved up where a later M exceeds it by 64; sums over keys are exact.
//
// All that is an integer here is the same on every instruction set for the same inputs. Finite
// inputs should not exceed 1e16 in magnitude, or their products and sums may overflow to NaN; an
// infinity or NaN in q makes its query NaN, one in k all queries, one in v its channel.
#ifndef NIBBLE_INT8_ATTENTION_H
#define NIBBLE_INT8_ATTENTION_H

#include "nibble_quantized.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// Keys that share a mean, scales and a maximum: 256 · 255 · 127 fits 32 bits, and more would make
/// all of them coarser.
enum { NIBBLE_KEY_BLOCK = 256 };

/// What happens to each row of queries or keys first, as in `rms_norm_rotary`, but without rounding
/// its result.
typedef struct NIBBLE_SENDABLE nibble_head_norm {
  size_t boundary;                 ///< the first `boundary` tokens have the first gain
  const float *_Nonnull gains[2];  ///< [head_dim]
  float epsilon;                   ///< added to the mean square
  const float *cosine, *sine;      ///< [tokens, head_dim / 2]
} nibble_head_norm;

/// One head. All arrays are bf16; strides count elements. Any number of queries and keys from 1 on,
/// any head_dim from 1 to 65536; scale is positive.
typedef struct NIBBLE_SENDABLE nibble_int8_attention_shape {
  size_t queries, keys, head_dim;
  size_t q_stride, k_stride, v_stride, out_stride;  ///< from one token to the next
  float scale;
  const nibble_head_norm *_Nullable q_norm;  ///< NULL: queries are taken as they are
  const nibble_head_norm *_Nullable k_norm;  ///< the same for keys
} nibble_int8_attention_shape;

/// Keys and values of a head are packed block by block, on any thread; then queries are worked in
/// ranges, as in `nibble_attention`.
typedef struct NIBBLE_SENDABLE nibble_int8_attention {
  size_t query_block;
  size_t (*packed_bytes)(const nibble_int8_attention_shape *shape);
  size_t (*scratch_bytes)(const nibble_int8_attention_shape *shape);
  /// k, v: [keys, head_dim], pointing at the first key of all -> packed, of `packed_bytes`, aligned
  /// to 64: the keys of block `block`. scratch is of `scratch_bytes`, aligned to 64, of any
  /// content, one thread's at a time.
  void (*pack)(const nibble_int8_attention_shape *shape, const uint16_t *k, const uint16_t *v,
               void *packed, size_t block, void *scratch);
  /// q, out: [queries, head_dim], pointing at the first query of all; works queries first ..< first
  /// + count.
  void (*run)(const nibble_int8_attention_shape *shape, const uint16_t *q, const void *packed,
              uint16_t *out, size_t first, size_t count, void *scratch);
} nibble_int8_attention;

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
