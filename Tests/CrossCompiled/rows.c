// Norms, what is done to rows element by element, conversions, and the product of one row.
#include <math.h>

#include "check.h"

static const size_t widths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 257};

/// For even numbers in -2 ..< 2 the normalized ones are below 3; gains and offsets are below 1.
static void test_norms(size_t rows, size_t n, nibble_float type) {
  array x = make_random(rows, n, n + 3, NIBBLE_F32, 2), gain = make_random(1, n, n, NIBBLE_F32, 1);
  array y = make(rows, n, n + 1, type), expected = copy_of(y);
  const float *g = (float *)gain.start;
  for (int with_gain = 0; with_gain < 2; with_gain++) {
    plain->layer_norm((float *)x.start, x.stride, expected.start, type, y.stride, rows, n,
                      with_gain ? g : NULL, with_gain ? g : NULL, 1);
    tested->layer_norm((float *)x.start, x.stride, y.start, type, y.stride, rows, n,
                       with_gain ? g : NULL, with_gain ? g : NULL, 1);
    check("layer_norm", n, y, expected, 12 * sum_roundoff(n));
  }
  plain->rms_norm((float *)x.start, x.stride, expected.start, type, y.stride, rows, n, g, 1e-6f);
  tested->rms_norm((float *)x.start, x.stride, y.start, type, y.stride, rows, n, g, 1e-6f);
  check("rms_norm", n, y, expected, 12 * sum_roundoff(n));
  dispose(x), dispose(gain), dispose(y), dispose(expected);

  if (n % 2 == 1) return;
  array heads = make_random(rows, 3 * n, 3 * n + 5, type, 2), expected_heads = copy_of(heads);
  array gains = make_random(1, n, n, NIBBLE_F32, 1);
  array cosine = make_random(rows, n / 2, n / 2, NIBBLE_F32, 1),
        sine = make_random(rows, n / 2, n / 2, NIBBLE_F32, 1);
  plain->rms_norm_rotary(expected_heads.start, type, heads.stride, rows, 3, n, (float *)gains.start,
                         1e-6f, (float *)cosine.start, (float *)sine.start);
  tested->rms_norm_rotary(heads.start, type, heads.stride, rows, 3, n, (float *)gains.start, 1e-6f,
                          (float *)cosine.start, (float *)sine.start);
  check("rms_norm_rotary", n, heads, expected_heads, 24 * sum_roundoff(n));
  dispose(heads), dispose(expected_heads), dispose(gains), dispose(cosine), dispose(sine);
}

static void test_rows(size_t rows, size_t n, nibble_float type) {
  array x = make_random(rows, n, n + 3, NIBBLE_F32, 8),
        branch = make_random(rows, n, n + 1, type, 4);
  array gate = make_random(1, n, n, NIBBLE_F32, 1), offset = make_random(1, n, n, NIBBLE_F32, 4);
  const float *g = (float *)gate.start;

  array stream = copy_of(x), expected_stream = copy_of(x);
  for (int with_gate = 0; with_gate < 2; with_gate++) {
    plain->gated_add((float *)expected_stream.start, x.stride, branch.start, type, branch.stride,
                     rows, n, with_gate ? g : NULL);
    tested->gated_add((float *)stream.start, x.stride, branch.start, type, branch.stride, rows, n,
                      with_gate ? g : NULL);
    check("gated_add", n, stream, expected_stream, 32 * u);
  }

  array product = make_random(rows, n, n + 2, type, 2), expected_product = copy_of(product);
  plain->multiply(expected_product.start, product.stride, branch.start, branch.stride, type, rows,
                  n);
  tested->multiply(product.start, product.stride, branch.start, branch.stride, type, rows, n);
  check("multiply", n, product, expected_product, 0);

  array y = make(rows, n, n + 1, type), expected_y = copy_of(y);
  for (int silu = 0; silu < 2; silu++) {
    plain->scale_offset(x.start, NIBBLE_F32, x.stride, expected_y.start, type, y.stride, rows, n, g,
                        (float *)offset.start, silu);
    tested->scale_offset(x.start, NIBBLE_F32, x.stride, y.start, type, y.stride, rows, n, g,
                         (float *)offset.start, silu);
    check("scale_offset", n, y, expected_y, 100 * u);
  }
  array row = make(1, n, n, type), expected_row = copy_of(row);
  plain->silu((float *)x.start, expected_row.start, type, n);
  tested->silu((float *)x.start, row.start, type, n);
  check("silu", n, row, expected_row, 64 * u);

  array sums = make_bytes(16 * n, 1), expected_sums = make_bytes(16 * n, 1);
  memset(sums.start, 0, sums.bytes), memset(expected_sums.start, 0, sums.bytes);
  plain->column_moments(branch.start, type, branch.stride, rows, n, (double *)expected_sums.start,
                        (double *)expected_sums.start + n);
  tested->column_moments(branch.start, type, branch.stride, rows, n, (double *)sums.start,
                         (double *)sums.start + n);
  expect("column_moments", n,
         memcmp(sums.start, expected_sums.start, sums.bytes) == 0 && is_intact(sums));

  dispose(x), dispose(branch), dispose(gate), dispose(offset), dispose(stream),
      dispose(expected_stream);
  dispose(product), dispose(expected_product), dispose(y), dispose(expected_y), dispose(row),
      dispose(expected_row);
  dispose(sums), dispose(expected_sums);
}

/// Bits of any kind as numbers: all codes of the small types, and f32 with every upper half.
static void test_convert(nibble_float from, nibble_float to, size_t n) {
  array x = make(1, n, n, from), y = make(1, n, n, to), expected = copy_of(y);
  for (size_t i = 0; i < n; i++) {
    if (from == NIBBLE_F32) {
      ((uint32_t *)x.start)[i] =
          (uint32_t)(i << 16) | (uint32_t[]){0, 1, 0x7fff, 0x8000, 0x8001, 0xffff}[i % 6];
    } else if (from == NIBBLE_F8E4M3) {
      x.start[i] = (uint8_t)i;
    } else {
      ((uint16_t *)x.start)[i] = (uint16_t)i;
    }
  }
  plain->convert(x.start, from, expected.start, to, n);
  tested->convert(x.start, from, y.start, to, n);
  bool good = is_intact(y);
  for (size_t i = 0; i < n; i++) {
    float a = get(y, 0, i), b = get(expected, 0, i);
    good = good && (isnan(a) ? isnan(b) : memcmp(&a, &b, sizeof a) == 0);
  }
  expect("convert", n, good);
  dispose(x), dispose(y), dispose(expected);
}

/// Weights and inputs are below 1 (codes of f16 and f8 below 2).
static void test_row_product(nibble_float type, size_t in, size_t out) {
  array x = make_random(1, in, in, NIBBLE_F32, 1), bias = make_random(1, out, out, NIBBLE_F32, 1);
  array w = make(out, in, in + 2, type), y = make(1, out, out, NIBBLE_F32), expected = copy_of(y);
  for (size_t i = 0; i < w.bytes / element_bytes(type); i++) {
    float value = random_number(1);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == NIBBLE_F32) memcpy(w.start + 4 * i, &bits, 4);
    if (type == NIBBLE_BF16) ((uint16_t *)w.start)[i] = (uint16_t)(bits >> 16);
    if (type == NIBBLE_F16) ((uint16_t *)w.start)[i] = (uint16_t)((bits & 0x8000) | bits % 0x4000);
    if (type == NIBBLE_F8E4M3) w.start[i] = (uint8_t)((bits & 0x80) | bits % 0x40);
  }
  for (int with_bias = 0; with_bias < 2; with_bias++) {
    const float *added = with_bias ? (float *)bias.start : NULL;
    plain->row_product((float *)x.start, w.start, type, w.stride, added, (float *)expected.start,
                       in, out);
    tested->row_product((float *)x.start, w.start, type, w.stride, added, (float *)y.start, in,
                        out);
    check("row_product", in, y, expected, sum_roundoff(in) * 2 * (double)in);
  }
  dispose(x), dispose(bias), dispose(w), dispose(y), dispose(expected);
}

void test_row_kernels(void) {
  for (nibble_float type = NIBBLE_F32; type <= NIBBLE_BF16; type++) {
    for (size_t i = 0; i < COUNT(widths); i++) {
      for (size_t rows = 1; rows <= 3; rows++) {
        test_norms(rows, widths[i], type);
        test_rows(rows, widths[i], type);
      }
    }
  }
  for (nibble_float from = NIBBLE_F32; from <= NIBBLE_F8E4M3; from++) {
    for (nibble_float to = NIBBLE_F32; to <= NIBBLE_BF16; to++) {
      for (size_t n = 1; n < 70; n++) test_convert(from, to, n);
      test_convert(from, to, 65536);
    }
    for (size_t i = 0; i < COUNT(widths); i++) {
      for (size_t out = 1; out <= 9; out += 2) test_row_product(from, widths[i], out);
    }
  }
}
