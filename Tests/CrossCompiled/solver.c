// The quantizer's kernels.
#include <math.h>

#include "check.h"

/// n is a multiple of NIBBLE_GROUP, weights are below 1.
static void test_solver(size_t rows, size_t n, size_t rank) {
  const nibble_solver *one = &tested->solver, *other = &plain->solver;
  array up = make_random(rows, rank, rank, NIBBLE_F32, 1);
  array down = make_random(rank, n, n, NIBBLE_F32, 1);
  array w = make_random(rows, n, n + 3, NIBBLE_F32, 1), expected = copy_of(w);
  one->subtract_product((float *)w.start, w.stride, (float *)up.start, (float *)down.start, rank,
                        rows, n);
  other->subtract_product((float *)expected.start, w.stride, (float *)up.start, (float *)down.start,
                          rank, rows, n);
  check("subtract_product", n, w, expected, 2 * u * (double)(rank * rank));

  size_t groups = rows * n / NIBBLE_GROUP;
  array codes = make_bytes(rows * n, 1), plain_codes = make_bytes(rows * n, 1);
  array scales = make_bytes(groups * 2, 2), plain_scales = make_bytes(groups * 2, 2);
  one->round_weights((float *)w.start, w.stride, rows, n, (int8_t *)codes.start,
                     (uint16_t *)scales.start);
  other->round_weights((float *)w.start, w.stride, rows, n, (int8_t *)plain_codes.start,
                       (uint16_t *)plain_scales.start);
  expect("round_weights", n,
         is_intact(codes) && is_intact(scales) &&
             memcmp(codes.start, plain_codes.start, rows * n) == 0 &&
             memcmp(scales.start, plain_scales.start, groups * 2) == 0);
  array left = copy_of(w);
  expected = (dispose(expected), copy_of(w));
  one->subtract_rounded((float *)left.start, w.stride, (int8_t *)codes.start,
                        (uint16_t *)scales.start, rows, n);
  other->subtract_rounded((float *)expected.start, w.stride, (int8_t *)codes.start,
                          (uint16_t *)scales.start, rows, n);
  check("subtract_rounded", n, left, expected, 4 * u * (double)rank);

  array z = make(rank, n, n, NIBBLE_F32), plain_z = copy_of(z);
  one->transposed_product((float *)up.start, rank, (float *)w.start, w.stride, rows, n,
                          (float *)z.start, n);
  other->transposed_product((float *)up.start, rank, (float *)w.start, w.stride, rows, n,
                            (float *)plain_z.start, n);
  check("transposed_product", n, z, plain_z, 2 * u * (double)(rows * rows * rank));

  double distance = other->squared_distance((float *)left.start, (float *)w.start, n);
  double found = one->squared_distance((float *)left.start, (float *)w.start, n);
  expect("squared_distance", n, fabs(found - distance) <= 100 * u * distance);
  array maxima = make_random(1, n, n, NIBBLE_F32, 0), plain_maxima = copy_of(maxima);
  tested->column_maxima(w.start, NIBBLE_F32, w.stride, rows, n, (float *)maxima.start);
  plain->column_maxima(w.start, NIBBLE_F32, w.stride, rows, n, (float *)plain_maxima.start);
  check("column_maxima", n, maxima, plain_maxima, 0);
  dispose(up), dispose(down), dispose(w), dispose(expected), dispose(codes), dispose(plain_codes);
  dispose(scales), dispose(plain_scales), dispose(left), dispose(z), dispose(plain_z);
  dispose(maxima), dispose(plain_maxima);
}

/// Columns in an order of their own; a code may turn over only where a weight lies in the middle
/// between two, which these do not.
static void test_feedback(size_t count) {
  enum { ROWS = 3 };
  size_t n = (count + 63) / 64 * 64;
  array w = make_random(ROWS, count, count + 1, NIBBLE_F32, 1), expected = copy_of(w);
  array carried = make_random(ROWS, count, count, NIBBLE_F32, 0.1f);
  array divisor = make_random(1, count, count, NIBBLE_F32, 1);
  array factor = make_random(count, count, count, NIBBLE_F32, 0.05f);
  array scales = make_bytes(ROWS * n / 64 * 2, 2), column = make_bytes(count * 4, 4);
  array codes = make_bytes(ROWS * n, 1), plain_codes = make_bytes(ROWS * n, 1);
  for (size_t i = 0; i < count; i++) {
    for (size_t j = i; j < count; j++) ((float *)factor.start)[i * count + j] = 0;
    ((int32_t *)column.start)[i] = (int32_t)((i * 7 + 3) % count);
  }
  for (size_t i = 0; i < ROWS * n / 64; i++) ((uint16_t *)scales.start)[i] = 0x3e80;
  memset(codes.start, 0, ROWS * n), memset(plain_codes.start, 0, ROWS * n);
  nibble_feedback feedback = {count, (float *)factor.start, (float *)divisor.start,
                              (int32_t *)column.start};
  tested->solver.round_with_feedback(&feedback, (float *)w.start, w.stride, (float *)carried.start,
                                     ROWS, n, (int8_t *)codes.start, (uint16_t *)scales.start);
  plain->solver.round_with_feedback(&feedback, (float *)expected.start, w.stride,
                                    (float *)carried.start, ROWS, n, (int8_t *)plain_codes.start,
                                    (uint16_t *)scales.start);
  check("round_with_feedback", count, w, expected, 8 * u);
  expect("its codes", count, memcmp(codes.start, plain_codes.start, ROWS * n) == 0);
  dispose(w), dispose(expected), dispose(carried), dispose(divisor), dispose(factor);
  dispose(scales), dispose(column), dispose(codes), dispose(plain_codes);
}

void test_solver_kernels(void) {
  static const size_t shapes[][3] = {{1, 64, 4}, {4, 64, 16}, {7, 192, 32}, {130, 128, 20}};
  for (size_t i = 0; i < COUNT(shapes); i++) test_solver(shapes[i][0], shapes[i][1], shapes[i][2]);
  for (size_t count = 16; count <= 256; count *= 2) test_feedback(count);
}
