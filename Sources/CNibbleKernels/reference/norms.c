#include <math.h>

#include "../scalar.h"
#include "plain.h"
#include "sums.h"

#pragma STDC FP_CONTRACT OFF

void nibble_plain_layer_norm(const float *x, size_t x_stride, void *y, nibble_float y_type,
                             size_t y_stride, size_t rows, size_t n, const float *gain,
                             const float *offset, float epsilon) {
  for (size_t row = 0; row < rows; row++, x += x_stride) {
    void *target = nibble_mutable_row(y, y_type, y_stride, row);
    float mean = nibble_sum(x, n) / (float)n;
    float variance = nibble_sum_of_squares(x, mean, n) / (float)n;
    float factor = 1 / sqrtf(variance + epsilon);
    for (size_t i = 0; i < n; i++) {
      float value = (x[i] - mean) * factor * (gain ? gain[i] : 1) + (offset ? offset[i] : 0);
      nibble_store(target, y_type, i, value);
    }
  }
}

void nibble_plain_rms_norm(const float *x, size_t x_stride, void *y, nibble_float y_type,
                           size_t y_stride, size_t rows, size_t n, const float *gain,
                           float epsilon) {
  for (size_t row = 0; row < rows; row++, x += x_stride) {
    void *target = nibble_mutable_row(y, y_type, y_stride, row);
    float factor = 1 / sqrtf(nibble_sum_of_squares(x, 0, n) / (float)n + epsilon);
    for (size_t i = 0; i < n; i++) nibble_store(target, y_type, i, x[i] * factor * gain[i]);
  }
}

static void normalize_and_rotate(void *x, nibble_float type, size_t head_dim, const float *gain,
                                 float epsilon, const float *cosine, const float *sine) {
  float partial[NIBBLE_PARTIAL_SUMS] = {0};
  for (size_t i = 0; i < head_dim; i++) {
    float value = nibble_load(x, type, i);
    partial[i % NIBBLE_PARTIAL_SUMS] += value * value;
  }
  float factor = 1 / sqrtf(nibble_add_partial_sums(partial) / (float)head_dim + epsilon);
  for (size_t pair = 0; pair < head_dim / 2; pair++) {
    float x0 = nibble_load(x, type, 2 * pair) * factor * gain[2 * pair];
    float x1 = nibble_load(x, type, 2 * pair + 1) * factor * gain[2 * pair + 1];
    nibble_store(x, type, 2 * pair, x0 * cosine[pair] - x1 * sine[pair]);
    nibble_store(x, type, 2 * pair + 1, x0 * sine[pair] + x1 * cosine[pair]);
  }
}

void nibble_plain_rms_norm_rotary(void *x, nibble_float type, size_t x_stride, size_t rows,
                                  size_t heads, size_t head_dim, const float *gain, float epsilon,
                                  const float *cosine, const float *sine) {
  for (size_t row = 0; row < rows; row++) {
    void *all_heads = nibble_mutable_row(x, type, x_stride, row);
    for (size_t head = 0; head < heads; head++) {
      normalize_and_rotate(nibble_mutable_row(all_heads, type, head_dim, head), type, head_dim,
                           gain, epsilon, cosine + row * (head_dim / 2),
                           sine + row * (head_dim / 2));
    }
  }
}
