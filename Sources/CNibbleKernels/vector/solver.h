// The quantizer's kernels.
#ifndef NIBBLE_VECTOR_SOLVER_H
#define NIBBLE_VECTOR_SOLVER_H

#include "../solver.h"
#include "vector.h"

// Four rows by this many vectors of sums, and the vectors that they are multiplied with, fit the
// registers of all instruction sets: 16 or 32.
enum {
  SOLVER_ROWS = 4,
  SOLVER_VECTORS = WIDTH == 16 ? 4 : 2,
  SOLVER_COLUMNS = SOLVER_VECTORS * WIDTH,
};

static void column_maxima(const void *x, nibble_float type, size_t x_stride, size_t rows, size_t n,
                          float *maxima) {
  FOR_TYPE(
      type, TYPE, for (size_t row = 0; row < rows; row++) {
        const void *source = nibble_row(x, TYPE, x_stride, row);
        EACH_VECTOR(n, i, count, {
          // Magnitudes compare as integers, NaN above all.
          uints magnitude = (uints)load_part(source, TYPE, i, count) & 0x7fffffff;
          uints largest = (uints)load_part(maxima, NIBBLE_F32, i, count);
          store_part(maxima, NIBBLE_F32, i, count,
                     (floats)__builtin_elementwise_max(magnitude, largest));
        })
      })
}

INLINE void subtract_product_rows(float *w, size_t w_stride, const float *up, const float *down,
                                  size_t rank, size_t in, int rows) {
  for (size_t i = 0; i < in; i += SOLVER_COLUMNS) {
    floats sums[SOLVER_ROWS][SOLVER_VECTORS];
    UNROLL for (int row = 0; row < rows; row++) {
      UNROLL for (int v = 0; v < SOLVER_VECTORS; v++) {
        sums[row][v] = load(w + row * w_stride, NIBBLE_F32, i + v * WIDTH);
      }
    }
    for (size_t r = 0; r < rank; r++) {
      floats line[SOLVER_VECTORS];
      UNROLL for (int v = 0; v < SOLVER_VECTORS; v++) {
        line[v] = load(down + r * in, NIBBLE_F32, i + v * WIDTH);
      }
      UNROLL for (int row = 0; row < rows; row++) {
        floats factor = broadcast(-up[row * rank + r]);
        UNROLL for (int v = 0; v < SOLVER_VECTORS; v++) {
          sums[row][v] = multiply_add(factor, line[v], sums[row][v]);
        }
      }
    }
    UNROLL for (int row = 0; row < rows; row++) {
      UNROLL for (int v = 0; v < SOLVER_VECTORS; v++) {
        store(w + row * w_stride, NIBBLE_F32, i + v * WIDTH, sums[row][v]);
      }
    }
  }
}

static void subtract_product(float *w, size_t w_stride, const float *up, const float *down,
                             size_t rank, size_t rows, size_t in) {
  for (; rows >= SOLVER_ROWS; rows -= SOLVER_ROWS) {
    subtract_product_rows(w, w_stride, up, down, rank, in, SOLVER_ROWS);
    w += SOLVER_ROWS * w_stride;
    up += SOLVER_ROWS * rank;
  }
  for (; rows > 0; rows--, w += w_stride, up += rank) {
    subtract_product_rows(w, w_stride, up, down, rank, in, 1);
  }
}

typedef int8_t weight_codes __attribute__((vector_size(WIDTH), aligned(1), may_alias));
typedef int8_t narrow_codes __attribute__((vector_size(WIDTH)));

static void round_weights(const float *w, size_t w_stride, size_t rows, size_t in, int8_t *codes,
                          uint16_t *scales) {
  for (size_t row = 0; row < rows; row++, w += w_stride) {
    for (size_t group = 0; group < in; group += GROUP, codes += GROUP) {
      uints largest = {};
      UNROLL for (int i = 0; i < GROUP; i += WIDTH) {
        uints magnitude = (uints)load(w, NIBBLE_F32, group + i) & 0x7fffffff;
        largest = __builtin_elementwise_max(largest, magnitude);
      }
      uint16_t scale = nibble_weight_scale(nibble_float_of_bits(__builtin_reduce_max(largest)));
      *scales++ = scale;
      floats divisor = broadcast(nibble_float_of_bf16(scale));
      UNROLL for (int i = 0; i < GROUP; i += WIDTH) {
        floats code = __builtin_elementwise_roundeven(load(w, NIBBLE_F32, group + i) / divisor);
        code = greater(lesser(code, broadcast(7)), broadcast(-7));
        ints whole = __builtin_convertvector(code, ints);
        *(weight_codes *)(codes + i) = __builtin_convertvector(whole, narrow_codes);
      }
    }
  }
}

static void subtract_rounded(float *w, size_t w_stride, const int8_t *codes, const uint16_t *scales,
                             size_t rows, size_t in) {
  for (size_t row = 0; row < rows; row++, w += w_stride) {
    for (size_t group = 0; group < in; group += GROUP, codes += GROUP) {
      floats factor = broadcast(-nibble_float_of_bf16(*scales++));
      UNROLL for (int i = 0; i < GROUP; i += WIDTH) {
        narrow_codes narrow = (narrow_codes) * (const weight_codes *)(codes + i);
        floats code = __builtin_convertvector(__builtin_convertvector(narrow, ints), floats);
        store(w, NIBBLE_F32, group + i, multiply_add(code, factor, load(w, NIBBLE_F32, group + i)));
      }
    }
  }
}

/// What a column loses is added to all columns that are still to come, so that its own sum is ready
/// when its turn comes.
static void round_with_feedback(const nibble_feedback *feedback, float *w, size_t w_stride,
                                const float *carried, size_t rows, size_t in, int8_t *codes,
                                const uint16_t *scales) {
  enum { PIECE = 256 };
  size_t count = feedback->count;
  for (size_t row = 0; row < rows; row++, w += w_stride, carried += count) {
    float targets[PIECE];
    for (size_t i = 0; i < count; i += WIDTH) {
      floats divisor = load(feedback->divisor, NIBBLE_F32, i);
      floats sum = multiply_add(load(carried, NIBBLE_F32, i), divisor, load(w, NIBBLE_F32, i));
      store(targets, NIBBLE_F32, i, sum);
    }
    for (size_t j = count; j-- > 0;) {
      size_t column = row * in + (size_t)feedback->column[j];
      float scale = nibble_float_of_bf16(scales[column / GROUP]);
      float code = __builtin_roundevenf(targets[j] / scale);
      code = code > 7 ? 7 : code < -7 ? -7 : code;
      codes[column] = (int8_t)code;
      w[j] -= code * scale;
      floats lost = broadcast(w[j]);
      const float *factors = feedback->factor + j * count;
      for (size_t i = 0; i < j; i += WIDTH) {
        floats sum = multiply_add(lost, load(factors, NIBBLE_F32, i), load(targets, NIBBLE_F32, i));
        store(targets, NIBBLE_F32, i, sum);
      }
    }
  }
}

/// One piece of rows, for four ranks and SOLVER_COLUMNS columns.
INLINE void add_transposed_piece(const float *y, size_t rank, const float *w, size_t w_stride,
                                 size_t rows, float *z, size_t z_stride) {
  floats sums[SOLVER_ROWS][SOLVER_VECTORS] = {};
  for (size_t row = 0; row < rows; row++, y += rank, w += w_stride) {
    floats line[SOLVER_VECTORS];
    UNROLL for (int v = 0; v < SOLVER_VECTORS; v++) line[v] = load(w, NIBBLE_F32, v * WIDTH);
    UNROLL for (int r = 0; r < SOLVER_ROWS; r++) {
      UNROLL for (int v = 0; v < SOLVER_VECTORS; v++) {
        sums[r][v] = multiply_add(broadcast(y[r]), line[v], sums[r][v]);
      }
    }
  }
  UNROLL for (int r = 0; r < SOLVER_ROWS; r++) {
    UNROLL for (int v = 0; v < SOLVER_VECTORS; v++) {
      float *target = z + r * z_stride;
      store(target, NIBBLE_F32, v * WIDTH, load(target, NIBBLE_F32, v * WIDTH) + sums[r][v]);
    }
  }
}

static void transposed_product(const float *y, size_t rank, const float *w, size_t w_stride,
                               size_t rows, size_t n, float *z, size_t z_stride) {
  for (size_t r = 0; r < rank; r++) memset(z + r * z_stride, 0, n * sizeof(float));
  for (size_t first = 0; first < rows; first += SUMMED_ROWS) {
    size_t count = rows - first < SUMMED_ROWS ? rows - first : SUMMED_ROWS;
    for (size_t i = 0; i < n; i += SOLVER_COLUMNS) {
      for (size_t r = 0; r < rank; r += SOLVER_ROWS) {
        add_transposed_piece(y + first * rank + r, rank, w + first * w_stride + i, w_stride, count,
                             z + r * z_stride + i, z_stride);
      }
    }
  }
}

static double squared_distance(const float *x, const float *y, size_t n) {
  // Lanes of f32 over a short piece, f64 over all pieces.
  enum { PIECE = 64 * WIDTH };
  double sum = 0;
  for (size_t first = 0; first < n; first += PIECE) {
    size_t count = n - first < PIECE ? n - first : PIECE;
    floats squares = {};
    EACH_VECTOR(count, i, part, {
      floats difference =
          load_part(x + first, NIBBLE_F32, i, part) - load_part(y + first, NIBBLE_F32, i, part);
      squares = multiply_add(difference, difference, squares);
    })
    sum += sum_of_lanes(squares);
  }
  return sum;
}

#define SOLVER                                                                                  \
  {                                                                                             \
    subtract_product, round_weights, subtract_rounded, round_with_feedback, transposed_product, \
        squared_distance                                                                        \
  }

#endif
