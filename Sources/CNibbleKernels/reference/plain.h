// The functions of the plain table: what each formula means, in order, one float at a time.
#ifndef NIBBLE_PLAIN_H
#define NIBBLE_PLAIN_H

#include "nibble_kernels.h"

extern const nibble_int8_attention nibble_plain_int8_attention;

void nibble_plain_convert(const void *x, nibble_float x_type, void *y, nibble_float y_type,
                          size_t n);
void nibble_plain_layer_norm(const float *x, size_t x_stride, void *y, nibble_float y_type,
                             size_t y_stride, size_t rows, size_t n, const float *gain,
                             const float *offset, float epsilon);
void nibble_plain_rms_norm(const float *x, size_t x_stride, void *y, nibble_float y_type,
                           size_t y_stride, size_t rows, size_t n, const float *gain,
                           float epsilon);
void nibble_plain_rms_norm_rotary(void *x, nibble_float type, size_t x_stride, size_t rows,
                                  size_t heads, size_t head_dim, const float *gain, float epsilon,
                                  const float *cosine, const float *sine);
void nibble_plain_gated_add(float *stream, size_t stream_stride, const void *branch,
                            nibble_float type, size_t branch_stride, size_t rows, size_t n,
                            const float *gate);
void nibble_plain_multiply(void *x, size_t x_stride, const void *y, size_t y_stride,
                           nibble_float type, size_t rows, size_t n);
void nibble_plain_silu(const float *x, void *y, nibble_float y_type, size_t n);
void nibble_plain_column_moments(const void *x, nibble_float type, size_t x_stride, size_t rows,
                                 size_t n, double *sums, double *squares);
void nibble_plain_scale_offset(const void *x, nibble_float x_type, size_t x_stride, void *y,
                               nibble_float y_type, size_t y_stride, size_t rows, size_t n,
                               const float *gain, const float *offset, bool silu);
void nibble_plain_row_product(const float *x, const void *w, nibble_float w_type, size_t w_stride,
                              const float *bias, float *y, size_t in, size_t out);
void nibble_plain_quantize_rows(const nibble_quantized_layer *layer, nibble_activation_codes kind,
                                const void *x, nibble_float x_type, size_t x_stride,
                                const nibble_quantized_rows *to, size_t first, size_t count);
void nibble_plain_quantized_product(const nibble_quantized_layer *layer,
                                    const nibble_quantized_rows *x, size_t first_row,
                                    size_t row_count, size_t first_output, size_t output_count,
                                    const nibble_destination *to);
void nibble_plain_quantized_row_product(const float *x, const uint8_t *codes,
                                        const uint16_t *scales, const uint16_t *zeros,
                                        const float *bias, float *y, size_t in, size_t first,
                                        size_t count);

void nibble_plain_column_maxima(const void *x, nibble_float type, size_t x_stride, size_t rows,
                                size_t n, float *maxima);
void nibble_plain_subtract_product(float *w, size_t w_stride, const float *up, const float *down,
                                   size_t rank, size_t rows, size_t in);
void nibble_plain_round_weights(const float *w, size_t w_stride, size_t rows, size_t in,
                                int8_t *codes, uint16_t *scales);
void nibble_plain_subtract_rounded(float *w, size_t w_stride, const int8_t *codes,
                                   const uint16_t *scales, size_t rows, size_t in);
void nibble_plain_round_with_feedback(const nibble_feedback *feedback, float *w, size_t w_stride,
                                      const float *carried, size_t rows, size_t in, int8_t *codes,
                                      const uint16_t *scales);
void nibble_plain_transposed_product(const float *y, size_t rank, const float *w, size_t w_stride,
                                     size_t rows, size_t n, float *z, size_t z_stride);
double nibble_plain_squared_distance(const float *x, const float *y, size_t n);

#endif
