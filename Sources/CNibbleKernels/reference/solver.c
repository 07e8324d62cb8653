#include "../solver.h"

#include <math.h>

#include "plain.h"

#pragma STDC FP_CONTRACT OFF

void nibble_plain_column_maxima(const void *x, nibble_float type, size_t x_stride, size_t rows,
                                size_t n, float *maxima) {
  for (size_t row = 0; row < rows; row++) {
    const void *source = nibble_row(x, type, x_stride, row);
    for (size_t i = 0; i < n; i++) {
      // Magnitudes compare as integers, NaN above all.
      uint32_t magnitude = nibble_bits_of_float(nibble_load(source, type, i)) & 0x7fffffff;
      if (magnitude > nibble_bits_of_float(maxima[i])) maxima[i] = nibble_float_of_bits(magnitude);
    }
  }
}

void nibble_plain_subtract_product(float *w, size_t w_stride, const float *up, const float *down,
                                   size_t rank, size_t rows, size_t in) {
  for (size_t row = 0; row < rows; row++, w += w_stride, up += rank) {
    for (size_t r = 0; r < rank; r++) {
      for (size_t i = 0; i < in; i++) w[i] -= up[r] * down[r * in + i];
    }
  }
}

static int8_t code_of(float w, float scale) {
  return (int8_t)fmaxf(-7, fminf(7, nearbyintf(w / scale)));
}

void nibble_plain_round_weights(const float *w, size_t w_stride, size_t rows, size_t in,
                                int8_t *codes, uint16_t *scales) {
  for (size_t row = 0; row < rows; row++, w += w_stride) {
    for (size_t group = 0; group < in; group += GROUP) {
      float absmax = 0;
      for (size_t i = group; i < group + GROUP; i++) absmax = fmaxf(absmax, fabsf(w[i]));
      uint16_t scale = nibble_weight_scale(absmax);
      *scales++ = scale;
      for (size_t i = group; i < group + GROUP; i++) {
        *codes++ = code_of(w[i], nibble_float_of_bf16(scale));
      }
    }
  }
}

void nibble_plain_subtract_rounded(float *w, size_t w_stride, const int8_t *codes,
                                   const uint16_t *scales, size_t rows, size_t in) {
  for (size_t row = 0; row < rows; row++, w += w_stride) {
    for (size_t i = 0; i < in; i++) {
      w[i] -= codes[row * in + i] * nibble_float_of_bf16(scales[(row * in + i) / GROUP]);
    }
  }
}

void nibble_plain_round_with_feedback(const nibble_feedback *feedback, float *w, size_t w_stride,
                                      const float *carried, size_t rows, size_t in, int8_t *codes,
                                      const uint16_t *scales) {
  size_t count = feedback->count;
  for (size_t row = 0; row < rows; row++, w += w_stride, carried += count) {
    for (size_t j = count; j-- > 0;) {
      float target = carried[j] * feedback->divisor[j];
      for (size_t i = count; i-- > j + 1;) target += w[i] * feedback->factor[i * count + j];
      target += w[j];
      size_t column = row * in + (size_t)feedback->column[j];
      float scale = nibble_float_of_bf16(scales[column / GROUP]);
      codes[column] = code_of(target, scale);
      w[j] -= codes[column] * scale;
    }
  }
}

void nibble_plain_transposed_product(const float *y, size_t rank, const float *w, size_t w_stride,
                                     size_t rows, size_t n, float *z, size_t z_stride) {
  for (size_t r = 0; r < rank; r++) {
    for (size_t i = 0; i < n; i++) {
      float sum = 0;
      for (size_t first = 0; first < rows; first += SUMMED_ROWS) {
        size_t end = first + SUMMED_ROWS < rows ? first + SUMMED_ROWS : rows;
        float piece = 0;
        for (size_t row = first; row < end; row++)
          piece += y[row * rank + r] * w[row * w_stride + i];
        sum += piece;
      }
      z[r * z_stride + i] = sum;
    }
  }
}

double nibble_plain_squared_distance(const float *x, const float *y, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
  return sum;
}
