// Dense products and convolutions of 16- and 32-bit floats through oneDNN, 2.x or 3.x, one thread a
// call.
//
// A product or convolution is compiled once for its shape and may then run on several threads at
// once: it keeps no state, and its scratch memory is the caller's. Functions that can fail return
// oneDNN's status, 0 for success.
#ifndef NIBBLE_ONEDNN_H
#define NIBBLE_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

typedef enum nibble_dnn_type { NIBBLE_DNN_F32 = 0, NIBBLE_DNN_BF16 = 1 } nibble_dnn_type;

/// What is done to each output element at the end.
typedef enum nibble_dnn_activation {
  NIBBLE_DNN_IDENTITY = 0,
  NIBBLE_DNN_GELU_TANH = 1,   ///< 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))
  NIBBLE_DNN_GELU_ERF = 2,    ///< 0.5 x (1 + erf(x / sqrt(2)))
  NIBBLE_DNN_QUICK_GELU = 3,  ///< x / (1 + exp(-1.702 x))
} nibble_dnn_activation;

/// y[rows, out] = activation(x[rows, in] w[out, in]ᵀ + bias[out]); bias is f32. Strides count
/// elements.
typedef struct nibble_product_shape {
  size_t rows, in, out;
  size_t x_stride, w_stride, y_stride;
  nibble_dnn_type input;   ///< x and w
  nibble_dnn_type output;  ///< y
  bool has_bias;
  nibble_dnn_activation activation;
} nibble_product_shape;

typedef struct nibble_product nibble_product;

int nibble_product_create(const nibble_product_shape *shape,
                          nibble_product *_Nullable *_Nonnull product);
void nibble_product_destroy(nibble_product *product);
size_t nibble_product_scratch_bytes(const nibble_product *product);
int nibble_product_run(const nibble_product *product, const void *x, const void *w,
                       const float *_Nullable bias, void *y, void *_Nullable scratch);

/// A two-dimensional convolution of one picture, channels last: x [height, width, in], y
/// [out_height, out_width, out], weights packed from [out, in, kernel, kernel]; bias f32 [out].
typedef struct nibble_convolution_shape {
  size_t height, width, in, out, kernel, stride;
  size_t pad_top, pad_left, pad_bottom, pad_right;
  nibble_dnn_type input;   ///< x and the weights
  nibble_dnn_type output;  ///< y
} nibble_convolution_shape;

typedef struct nibble_convolution nibble_convolution;

int nibble_convolution_create(const nibble_convolution_shape *shape,
                              nibble_convolution *_Nullable *_Nonnull convolution);
void nibble_convolution_destroy(nibble_convolution *convolution);
size_t nibble_convolution_scratch_bytes(const nibble_convolution *convolution);
size_t nibble_convolution_packed_bytes(const nibble_convolution *convolution);
/// Whether both convolutions, of the same channels, kernel and types, read weights packed alike.
bool nibble_convolution_packs_alike(const nibble_convolution *one, const nibble_convolution *other);
/// Packs contiguous weights [out, in, kernel, kernel] of the convolution's input type.
int nibble_convolution_pack(const nibble_convolution *convolution, const void *weights,
                            void *packed);
int nibble_convolution_run(const nibble_convolution *convolution, const void *x, const void *packed,
                           const float *bias, void *y, void *_Nullable scratch);

/// Whether this processor multiplies bf16 natively through oneDNN; where not, f32 products are
/// faster.
bool nibble_dnn_has_bf16(void);

/// oneDNN's version: major * 10000 + minor * 100 + patch.
int nibble_dnn_version(void);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
