// The arithmetic of Nibble: hot loops over plain arrays. Nothing here allocates, prints, starts a
// thread or keeps state.
//
// Every function of the table exists for each instruction set; `nibble_kernels_for` hands out the
// whole table of one, so that a kernel and the layout that it reads are always chosen together. All
// sets compute the same formula; floats differ between them by rounding only, within the bounds
// that the tests derive.
#ifndef NIBBLE_KERNELS_H
#define NIBBLE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nibble_int8_attention.h"
#include "nibble_quantized.h"
#include "nibble_solver.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// Instruction sets, worst first.
typedef enum nibble_isa {
  NIBBLE_ISA_PLAIN = 0,       ///< C, any processor
  NIBBLE_ISA_NEON = 1,        ///< Arm, Advanced SIMD
  NIBBLE_ISA_NEONDOT = 2,     ///< the same and dot products
  NIBBLE_ISA_NEONI8MM = 3,    ///< the same and matrix products of bytes
  NIBBLE_ISA_AVX2 = 4,        ///< x86, AVX2, FMA, F16C
  NIBBLE_ISA_AVXVNNI = 5,     ///< the same and AVX-VNNI
  NIBBLE_ISA_AVX512 = 6,      ///< x86, AVX-512 F, BW, VL, DQ, VNNI
  NIBBLE_ISA_AVX512BF16 = 7,  ///< the same and AVX-512 BF16
} nibble_isa;
enum { NIBBLE_ISA_COUNT = 8 };

/// Types of a float array. bf16 is the upper half of an f32, stored in 16 bits.
typedef enum nibble_float {
  NIBBLE_F32 = 0,
  NIBBLE_BF16 = 1,
  NIBBLE_F16 = 2,
  NIBBLE_F8E4M3 = 3,
} nibble_float;

/// One head of attention: out = softmax(scale · q kᵀ + bias) v. All arrays are f32, or all are
/// bf16; strides count elements. The sums, the softmax and the output before its rounding are f32;
/// on AVX-512 BF16, bf16 arrays have their softmax weights rounded to bf16 (their sum is of the
/// rounded ones) and subnormal numbers taken for zero. Any number of queries and keys and any
/// head_dim from 1 on; the kernels are made for a head_dim of 64 to 512.
typedef struct NIBBLE_SENDABLE nibble_attention_shape {
  size_t queries, keys, head_dim;
  size_t q_stride, k_stride, v_stride, out_stride;  ///< from one token to the next
  float scale;
  /// Added to the scores: bias[query * bias_row_stride + key]; NULL: none. A stride of -1 reads a
  /// Toeplitz matrix. Minus infinity hides a key; every query must see one.
  const float *_Nullable bias;
  ptrdiff_t bias_row_stride;
  bool causal;  ///< query i sees keys 0...i only
} nibble_attention_shape;

/// Attention for one type of arrays. Keys and values of a head are packed once, then queries are
/// worked in ranges that may run on different threads; the result does not depend on how queries
/// are split into ranges that start at multiples of `query_block`.
typedef struct NIBBLE_SENDABLE nibble_attention {
  size_t query_block;
  size_t (*packed_bytes)(const nibble_attention_shape *shape);
  size_t (*scratch_bytes)(const nibble_attention_shape *shape);
  /// k, v: [keys, head_dim] -> packed, of `packed_bytes`, aligned to 64.
  void (*pack)(const nibble_attention_shape *shape, const void *k, const void *v, void *packed);
  /// q, out: [queries, head_dim], pointing at the first query of all; works queries first ..< first
  /// + count. scratch is of `scratch_bytes`, aligned to 64, of any content, one thread's at a time.
  void (*run)(const nibble_attention_shape *shape, const void *q, const void *packed, void *out,
              size_t first, size_t count, void *scratch);
} nibble_attention;

/// How a product's outputs meet what is in their place.
typedef enum nibble_merge {
  NIBBLE_REPLACE = 0,
  /// y += gate * outputs
  NIBBLE_ADD = 1,
  /// y *= outputs
  NIBBLE_MULTIPLY = 2
} nibble_merge;

/// Where a product's outputs go, and what is done to them on the way.
typedef struct NIBBLE_SENDABLE nibble_destination {
  void *y;            ///< of row 0 and the first output that the call makes
  nibble_float type;  ///< f32 or bf16
  size_t stride;      ///< from one row to the next, in numbers
  bool gelu;          ///< GELU with tanh, before they are merged
  nibble_merge merge;
  const float *_Nullable gate;  ///< [out], of all outputs; NULL: 1
  bool branch_in_f32;  ///< else AVX-512 BF16 rounds x downᵀ to bf16, as outputs of that type are
} nibble_destination;

/// quantized_product for codes of up to 112, with half of its multiplications (S. Winograd, A new
/// algorithm for inner products, IEEE Transactions on Computers C-17, 1968): with a, b the codes of
/// two inputs and c, d their weights, ac + bd = (a + d)(b + c) - ab - cd. The sums of two codes fit
/// in bytes; the terms of activations alone and of weights alone are added up once. Group sums are
/// exact, so that results are those of quantized_product to the bit.
typedef struct NIBBLE_SENDABLE nibble_paired_product {
  /// Bytes that `run` works with, aligned to 64 bytes.
  size_t (*scratch_bytes)(size_t in, size_t row_count, size_t output_count);

  /// Fills in pair_starts of quantized rows first (a multiple of 12) ..< first + count, and of the
  /// room behind them in their last tile.
  void (*starts)(size_t in, const nibble_quantized_rows *x, size_t first, size_t count);

  /// As quantized_product. Brings the weights of its outputs into another order first, which some
  /// 60 rows make up for.
  void (*run)(const nibble_quantized_layer *layer, const nibble_quantized_rows *x, size_t first_row,
              size_t row_count, size_t first_output, size_t output_count,
              const nibble_destination *to, void *scratch);
} nibble_paired_product;

typedef struct NIBBLE_SENDABLE nibble_kernels {
  nibble_isa isa;
  const char *name;

  nibble_attention attention_f32, attention_bf16;

  /// NULL where the instruction set would win nothing by it.
  const nibble_int8_attention *_Nullable attention_int8;

  /// Converts n elements between any of the float types; to a narrower type to nearest even, NaN
  /// stays NaN. Destination types: f32 and bf16.
  void (*convert)(const void *x, nibble_float x_type, void *y, nibble_float y_type, size_t n);

  /// Rows of n: y = (x - mean) / sqrt(variance + epsilon) * gain + offset. x is f32; y f32 or bf16;
  /// gain, offset f32 [n], NULL: 1 and 0.
  void (*layer_norm)(const float *x, size_t x_stride, void *y, nibble_float y_type, size_t y_stride,
                     size_t rows, size_t n, const float *_Nullable gain,
                     const float *_Nullable offset, float epsilon);

  /// Rows of n: y = x / sqrt(mean(x²) + epsilon) * gain. x is f32; y f32 or bf16.
  void (*rms_norm)(const float *x, size_t x_stride, void *y, nibble_float y_type, size_t y_stride,
                   size_t rows, size_t n, const float *gain, float epsilon);

  /// In place on x [rows, heads, head_dim], f32 or bf16, rows x_stride apart, head_dim even: each
  /// head is RMS-normalized (gain [head_dim]), then adjacent pairs are rotated: (x0 cos - x1 sin,
  /// x0 sin + x1 cos), cosine and sine f32 [rows, head_dim / 2].
  void (*rms_norm_rotary)(void *x, nibble_float type, size_t x_stride, size_t rows, size_t heads,
                          size_t head_dim, const float *gain, float epsilon, const float *cosine,
                          const float *sine);

  /// Rows of n: stream += gate * branch. gate f32 [n], NULL: 1. branch f32 or bf16.
  void (*gated_add)(float *stream, size_t stream_stride, const void *branch, nibble_float type,
                    size_t branch_stride, size_t rows, size_t n, const float *_Nullable gate);

  /// Rows of n: x *= y, both f32 or both bf16.
  void (*multiply)(void *x, size_t x_stride, const void *y, size_t y_stride, nibble_float type,
                   size_t rows, size_t n);

  /// y = x / (1 + exp(-x)), n elements.
  void (*silu)(const float *x, void *y, nibble_float y_type, size_t n);

  /// Rows of n: adds each column's sum and sum of squares over the rows to sums [n] and squares
  /// [n]. x f32 or bf16.
  void (*column_moments)(const void *x, nibble_float type, size_t x_stride, size_t rows, size_t n,
                         double *sums, double *squares);

  /// Rows of n: y = f(x * gain + offset) with f the identity or SiLU; x, y f32 or bf16, gain and
  /// offset f32 [n].
  void (*scale_offset)(const void *x, nibble_float x_type, size_t x_stride, void *y,
                       nibble_float y_type, size_t y_stride, size_t rows, size_t n,
                       const float *gain, const float *offset, bool silu);

  /// y[out] = W x + bias for one row: x f32 [in], W [out, in] of any float type, bias f32 [out] or
  /// NULL. For products of a single row, where reading W is all the work.
  void (*row_product)(const float *x, const void *w, nibble_float w_type, size_t w_stride,
                      const float *_Nullable bias, float *y, size_t in, size_t out);

  /// Rows of x, f32 or bf16 -> `to`, from its row `first` on: codes and scales of x / smooth
  /// rounded to bf16 (of x + 0.171875, first rounded to bf16 too, where the codes are shifted), and
  /// x downᵀ. The codes follow from IEEE operations in one order: 4 bits s = absmax · f32(1/7 or
  /// 1/15), code = rne(x' · (1 / s)); 8 bits s = absmax / 127 or 112, code = rne(x' / s). A group
  /// whose s has no finite reciprocal has codes and scale of zero; one with an infinity or NaN has
  /// a scale that is neither.
  void (*quantize_rows)(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                        const void *x, nibble_float x_type, size_t x_stride,
                        const nibble_quantized_rows *to, size_t first, size_t count);

  /// codes Wᵀ + branch upᵀ + bias, for rows first_row (a multiple of 12) ..< first_row + row_count
  /// of x and outputs first_output (a multiple of 16) ..< first_output + output_count. Sums within
  /// a group are exact; scaled, they are added in f32, groups ascending, then ranks, then the bias.
  void (*quantized_product)(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                            size_t first_row, size_t row_count, size_t first_output,
                            size_t output_count, const nibble_destination *to);

  /// The same in pairs; NULL where that is never faster.
  const nibble_paired_product *_Nullable paired_product;

  /// y[out] = (code · scale + zero) x + bias for one row, outputs first ..< first + count (first a
  /// multiple of 16): W4A16. x f32 [in]; codes, scales and zeros in the order of
  /// nibble_quantized.h; y points at output 0.
  void (*quantized_row_product)(const float *x, const uint8_t *codes, const uint16_t *scales,
                                const uint16_t *zeros, const float *_Nullable bias, float *y,
                                size_t in, size_t first, size_t count);

  /// Rows of n: maxima[i] = max(maxima[i], |x[i]|), NaN above all. x f32 or bf16.
  void (*column_maxima)(const void *x, nibble_float type, size_t x_stride, size_t rows, size_t n,
                        float *maxima);

  nibble_solver solver;
} nibble_kernels;

/// Whether this processor multiplies faster in pairs: AMD's add on twice as many vector units as
/// they multiply on, Intel's do both on the same.
bool nibble_prefers_pairs(void);

/// The product with the 16-bit accumulation of Nunchaku's GPU kernels (gemm_w4a4 without
/// USE_FP32_ACCUM), to compare with that engine: slow. The low-rank sums are rounded to bf16 before
/// they are multiplied by `up`. Parameters as of `quantized_product`; outputs of f32 are the same
/// bf16 numbers.
void nibble_product_in_bf16(const nibble_quantized_layer *layer, const nibble_quantized_rows *x,
                            size_t first_row, size_t row_count, size_t first_output,
                            size_t output_count, const nibble_destination *to);

/// The same for W4A16 (Nunchaku's gemv_awq): x, weights, products, sum and biased sum are rounded
/// to bf16, but nothing within the sum. Parameters as of `quantized_row_product`.
void nibble_row_product_in_bf16(const float *x, const uint8_t *codes, const uint16_t *scales,
                                const uint16_t *zeros, const float *_Nullable bias, float *y,
                                size_t in, size_t first, size_t count);

/// Whether this processor has an instruction set and this build has its kernels.
bool nibble_isa_supported(nibble_isa isa);

/// The kernels of an instruction set; NULL where it is not supported.
const nibble_kernels *_Nullable nibble_kernels_for(nibble_isa isa);

/// A number of dependent-free multiply-add instructions, to learn what the processor can do at
/// most.
typedef enum nibble_limit {
  NIBBLE_LIMIT_INT8 = 0,
  NIBBLE_LIMIT_BF16 = 1,
  NIBBLE_LIMIT_F32 = 2
} nibble_limit;

/// Runs a loop of the widest multiply-add of `isa` on operands of that type and returns how many
/// multiply-adds it did; 0 where the instruction set has none.
uint64_t nibble_run_limit(nibble_isa isa, nibble_limit limit, uint64_t iterations);

/// Tells the processor that this is a waiting loop.
static inline void nibble_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
