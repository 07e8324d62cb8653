// Every instruction set of the processor that this runs on, or that an emulator shows, against
// plain C. The Swift tests compare with float64 and go over more cases; this is for processors on
// which no Swift runs.
#include <math.h>
#include <stdio.h>

#include "memory.h"

static const nibble_kernels *plain, *tested;
static int passed, failed;

static const size_t widths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 257};
#define COUNT(list) (sizeof(list) / sizeof *(list))

static const double u = 0x1p-24;  // unit roundoff of f32
static double roundoff(nibble_float type) {
  return type == NIBBLE_F32 ? u : 0x1p-8;
}

/// Values within `bound` (of what their sums and products lose) and the rounding to the type.
static void check(const char *what, size_t n, array actual, array expected, double bound) {
  bool good = is_intact(actual);
  size_t worst_row = 0, worst_column = 0;
  double worst = -1;
  for (size_t row = 0; row < actual.rows; row++) {
    for (size_t column = 0; column < actual.columns; column++) {
      double x = get(actual, row, column), y = get(expected, row, column);
      double allowed = bound + 2 * roundoff(actual.type) * (fabs(y) + bound);
      double error = x == y || (isnan(x) && isnan(y)) ? 0 : fabs(x - y) / allowed;
      if (!(error <= worst)) worst = error, worst_row = row, worst_column = column;
    }
  }
  if (good && worst <= 1) {
    passed++;
    return;
  }
  failed++;
  printf("%s: %s, type %d, n %zu: %s, worst at %zu, %zu: %g, expected %g, %g times its bound\n",
         tested->name, what, (int)actual.type, n, good ? "in its array" : "WROTE OUTSIDE",
         worst_row, worst_column, get(actual, worst_row, worst_column),
         get(expected, worst_row, worst_column), worst);
}

static void expect(const char *what, size_t n, bool good) {
  if (good) {
    passed++;
  } else {
    failed++;
    printf("%s: %s, n %zu: failed\n", tested->name, what, n);
  }
}

static void attend(const nibble_kernels *kernels, nibble_attention_shape shape, array q, array k,
                   array v, array out) {
  const nibble_attention *attention =
      q.type == NIBBLE_F32 ? &kernels->attention_f32 : &kernels->attention_bf16;
  array packed = make_bytes(attention->packed_bytes(&shape), 64);
  array scratch = make_bytes(attention->scratch_bytes(&shape), 64);
  attention->pack(&shape, k.start, v.start, packed.start);
  for (size_t first = 0; first < shape.queries; first += attention->query_block) {
    size_t left = shape.queries - first;
    attention->run(&shape, q.start, packed.start, out.start, first,
                   left < attention->query_block ? left : attention->query_block, scratch.start);
  }
  expect("attention's packed and scratch memory", shape.keys,
         is_intact(packed) && is_intact(scratch));
  dispose(packed);
  dispose(scratch);
}

/// |q| and |k| are below 2, so a score's terms add up to less than 4 d scale, and so do its errors
/// times (d + 12) u; both kernels may be off by twice that relatively, and by 2 n u for sums of n
/// weights. One may have rounded the weights of bf16 arrays, whose values are below 1, to bf16.
static void test_attention(size_t queries, size_t keys, size_t head_dim, nibble_float type,
                           bool causal, bool biased) {
  array q = make_random(queries, head_dim, head_dim + 3, type, 2);
  array k = make_random(keys, head_dim, head_dim, type, 2);
  array v = make_random(keys, head_dim, head_dim + 1, type, 1);
  array bias = make_random(1, queries + keys - 1, queries + keys - 1, NIBBLE_F32, 2);
  array out = make(queries, head_dim, head_dim + 2, type), expected = copy_of(out);
  nibble_attention_shape shape = {queries,
                                  keys,
                                  head_dim,
                                  q.stride,
                                  k.stride,
                                  v.stride,
                                  out.stride,
                                  1 / sqrtf((float)head_dim),
                                  biased ? (float *)bias.start + queries - 1 : NULL,
                                  -1,
                                  causal};
  attend(plain, shape, q, k, v, expected);
  attend(tested, shape, q, k, v, out);
  double score = 4 * sqrt((double)head_dim) + 2;
  double relative = 4 * ((double)head_dim + 12) * u * score + 4 * ((double)keys + 24) * u;
  if (type == NIBBLE_BF16) relative += 2 * roundoff(type);
  check("attention", queries * 1000000 + keys * 1000 + head_dim, out, expected, relative);
  dispose(q), dispose(k), dispose(v), dispose(bias), dispose(out), dispose(expected);
}

static void test_all_attention(nibble_float type) {
  const size_t counts[] = {1, 15, 16, 17, 63, 64, 65, 129, 300},
               dims[] = {8, 12, 13, 16, 72, 128, 512};
  for (size_t i = 0; i < COUNT(counts); i++) {
    for (size_t d = 0; d < COUNT(dims); d++) {
      size_t keys = counts[(i + d) % COUNT(counts)];
      if (dims[d] == 512 && (counts[i] > 100 || keys > 100)) continue;  // slow in an emulator
      test_attention(counts[i], keys, dims[d], type, false, d % 2);
      test_attention(counts[i], counts[i], dims[d], type, true, d % 2);
    }
  }
}

static void attend_in_bytes(const nibble_kernels *kernels, nibble_int8_attention_shape shape,
                            array q, array k, array v, array out) {
  const nibble_int8_attention *attention = kernels->attention_int8;
  array packed = make_bytes(attention->packed_bytes(&shape), 64);
  array scratch = make_bytes(attention->scratch_bytes(&shape), 64);
  for (size_t block = 0; block * NIBBLE_KEY_BLOCK < shape.keys; block++) {
    attention->pack(&shape, (uint16_t *)k.start, (uint16_t *)v.start, packed.start, block,
                    scratch.start);
  }
  for (size_t first = 0; first < shape.queries; first += attention->query_block) {
    size_t left = shape.queries - first;
    attention->run(&shape, (uint16_t *)q.start, packed.start, (uint16_t *)out.start, first,
                   left < attention->query_block ? left : attention->query_block, scratch.start);
  }
  expect("attention in bytes' packed and scratch memory", shape.keys,
         is_intact(packed) && is_intact(scratch));
  dispose(packed);
  dispose(scratch);
}

/// Within one block of keys all sums that decide are exact, and the bytes equal. Several blocks
/// meet in f32: the exponents of two are off by d u Σ|q mean| scale log2 e, where |q| and |mean|
/// are below 2, twice each, and the sums by 32 u for each block. Values are below 1. With a spread
/// of 1000 a score's distance from the greatest is moved up instead of down.
static void test_int8_attention(size_t queries, size_t keys, size_t head_dim, float spread) {
  array q = make_random(queries, head_dim, head_dim + 3, NIBBLE_BF16, 2 * spread);
  array k = make_random(keys, head_dim, head_dim, NIBBLE_BF16, 2);
  array v = make_random(keys, head_dim, head_dim + 1, NIBBLE_BF16, 1);
  array out = make(queries, head_dim, head_dim + 2, NIBBLE_BF16), expected = copy_of(out);
  nibble_int8_attention_shape shape = {.queries = queries,
                                       .keys = keys,
                                       .head_dim = head_dim,
                                       .q_stride = q.stride,
                                       .k_stride = k.stride,
                                       .v_stride = v.stride,
                                       .out_stride = out.stride,
                                       .scale = 1 / sqrtf((float)head_dim)};
  attend_in_bytes(plain, shape, q, k, v, expected);
  attend_in_bytes(tested, shape, q, k, v, out);
  if (keys <= NIBBLE_KEY_BLOCK) {
    expect("attention in bytes", queries * 1000000 + keys * 1000 + head_dim,
           memcmp(out.start, expected.start, out.bytes) == 0 && is_intact(out));
  } else {
    double product = 4 * (double)head_dim * (double)shape.scale * 1.5;
    check("attention in bytes, several blocks", queries * 1000000 + keys * 1000 + head_dim, out,
          expected, (double)head_dim * u * product * 4 + 32 * u * ((double)keys / 256 + 1));
  }
  dispose(q), dispose(k), dispose(v), dispose(out), dispose(expected);
}

static void test_all_int8_attention(void) {
  const size_t counts[] = {1, 3, 15, 16, 17, 47, 49, 64, 65, 255, 256, 300, 600},
               dims[] = {1, 3, 8, 13, 64, 72, 128};
  if (!tested->attention_int8) return;
  for (size_t i = 0; i < COUNT(counts); i++) {
    for (size_t d = 0; d < COUNT(dims); d++) {
      size_t queries = counts[(i + d) % COUNT(counts)];
      test_int8_attention(queries < 100 ? queries : 50, counts[i], dims[d], 1);
    }
    if (counts[i] <= NIBBLE_KEY_BLOCK) test_int8_attention(9, counts[i], 64, 1000);
  }
}

/// What differently ordered sums of n terms may differ by, relative to the sum of their magnitudes.
static double sum_roundoff(size_t n) {
  return 2 * ((double)n / 4 + 40) * u;
}

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

typedef struct quantized_arrays {
  array codes, scales, starts, branch;
  nibble_quantized_rows rows;
} quantized_arrays;

static quantized_arrays quantize(const nibble_kernels *kernels, const nibble_quantized_layer *layer,
                                 nibble_activation_codes kind, array x) {
  size_t groups = layer->in / NIBBLE_GROUP;
  size_t rows = (x.rows + NIBBLE_TILE_ROWS - 1) / NIBBLE_TILE_ROWS * NIBBLE_TILE_ROWS;
  quantized_arrays made = {make_bytes(rows * layer->in, 64),
                           make_bytes(rows * groups * 4, 1),
                           make_bytes(rows * groups * 4, 1),
                           make_bytes(rows * layer->rank * 4, 1),
                           {0}};
  made.rows =
      (nibble_quantized_rows){(int8_t *)made.codes.start, (float *)made.scales.start,
                              (int32_t *)made.starts.start, (float *)made.branch.start, NULL};
  kernels->quantize_rows(layer, kind, x.start, x.type, x.stride, &made.rows, 0, x.rows);
  return made;
}

/// x is below 2, scales below 1/8, down and up below 1/4, so that |codes · scale| is below 3 and a
/// term of the product below 3 · 8 / 8, one of the branch below 2 in / 16.
static void test_quantized(size_t rows, size_t in, size_t out, size_t rank,
                           nibble_activation_codes kind, nibble_float type) {
  size_t groups = in / NIBBLE_GROUP;
  array codes = make_bytes(in * out, 1),
        packed = make_bytes(nibble_packed_codes_bytes(in, out), 64);
  for (size_t i = 0; i < in * out; i++) {
    codes.start[i] = (uint8_t)(i % 5 == 0 ? -8 : i % 7 == 0 ? 7 : (int)random_number(8));
  }
  nibble_pack_codes((int8_t *)codes.start, 8, in, out, packed.start);
  array scales = make_random(out, groups, groups, NIBBLE_BF16, 0.125f);
  array down = make_random(rank + 1, in, in, NIBBLE_BF16, 0.25f);
  array up = make_random(out + 1, rank, rank, NIBBLE_BF16, 0.25f);
  array bias = make_random(1, out, out, NIBBLE_F32, 1),
        smooth = make_random(1, in, in, NIBBLE_F32, 1);
  for (size_t i = 0; i < in; i++) ((float *)smooth.start)[i] += 2;
  array packed_scales = make_bytes(nibble_packed_scales_bytes(in, out), 64);
  array packed_down = make_bytes(nibble_packed_down_bytes(in, rank), 64);
  array packed_up = make_bytes(nibble_packed_up_bytes(out, rank), 64);
  nibble_pack_scales((uint16_t *)scales.start, in, out, (uint16_t *)packed_scales.start);
  nibble_pack_down((uint16_t *)down.start, in, rank, (uint16_t *)packed_down.start);
  nibble_pack_up((uint16_t *)up.start, out, rank, (uint16_t *)packed_up.start);
  nibble_quantized_layer layer = {in,
                                  out,
                                  rank,
                                  packed.start,
                                  (uint16_t *)packed_scales.start,
                                  (float *)smooth.start,
                                  (uint16_t *)packed_down.start,
                                  (uint16_t *)packed_up.start,
                                  (float *)bias.start};
  array x = make_random(rows, in, in + 3, type, 2);
  quantized_arrays found = quantize(tested, &layer, kind, x);
  quantized_arrays expected = quantize(plain, &layer, kind, x);
  expect("quantized codes", in,
         memcmp(found.codes.start, expected.codes.start, found.codes.bytes) == 0 &&
             memcmp(found.scales.start, expected.scales.start, found.scales.bytes) == 0 &&
             memcmp(found.starts.start, expected.starts.start, found.starts.bytes) == 0 &&
             is_intact(found.codes) && is_intact(found.scales) && is_intact(found.starts));

  array y = make(rows, out, out + 2, type), expected_y = copy_of(y);
  // Few terms are that large and of one sign; 2 · 64 terms of a piece and the pieces lose most.
  double terms = 3 * (double)in + (double)rank * (double)in / 32 + 1;
  double bound = 4 * ((double)(groups + rank) + 200) * u * terms;
  for (int gelu = 0; gelu < 2; gelu++) {
    nibble_destination to = {.y = y.start,
                             .type = type,
                             .stride = y.stride,
                             .gelu = gelu,
                             .branch_in_f32 = type == NIBBLE_F32};
    tested->quantized_product(&layer, &found.rows, 0, rows, 0, out, &to);
    to.y = expected_y.start;
    plain->quantized_product(&layer, &expected.rows, 0, rows, 0, out, &to);
    check("quantized_product", in, y, expected_y, bound);
  }

  // One group, all scales 1, no branch: the exact sums.
  nibble_quantized_layer bare = layer;
  bare.rank = 0, bare.bias = NULL;
  for (size_t i = 0; i < packed_scales.bytes / 2; i++) {
    ((uint16_t *)packed_scales.start)[i] = 0x3f80;
  }
  for (size_t row = 0; row < rows; row++) {
    for (size_t group = 0; group < groups; group++) {
      found.rows.scales[nibble_index_of_group(in, row, group)] = group == groups - 1;
    }
  }
  array sums = make(rows, out, out, NIBBLE_F32), expected_sums = copy_of(sums);
  nibble_destination to = {.y = sums.start, .type = NIBBLE_F32, .stride = out};
  tested->quantized_product(&bare, &found.rows, 0, rows, 0, out, &to);
  to.y = expected_sums.start;
  plain->quantized_product(&bare, &found.rows, 0, rows, 0, out, &to);
  check("sums of codes", in, sums, expected_sums, 0);
  expect("weights of quantized_product", in, is_intact(packed));

  array row = make_random(1, in, in, NIBBLE_F32, 1), z = make(1, out, out, NIBBLE_F32);
  array expected_z = copy_of(z);
  const uint16_t *halves = (uint16_t *)packed_scales.start;
  tested->quantized_row_product((float *)row.start, packed.start, halves, halves,
                                (float *)bias.start, (float *)z.start, in, 0, out);
  plain->quantized_row_product((float *)row.start, packed.start, halves, halves,
                               (float *)bias.start, (float *)expected_z.start, in, 0, out);
  check("quantized_row_product", in, z, expected_z,
        16 * (double)in * 4 * (64 + (double)groups) * u);

  dispose(codes), dispose(packed), dispose(scales), dispose(down), dispose(up), dispose(bias);
  dispose(smooth), dispose(packed_scales), dispose(packed_down), dispose(packed_up), dispose(x);
  dispose(y), dispose(expected_y), dispose(sums), dispose(expected_sums);
  dispose(row), dispose(z), dispose(expected_z);
  for (int i = 0; i < 2; i++) {
    quantized_arrays *arrays = i == 0 ? &found : &expected;
    dispose(arrays->codes), dispose(arrays->scales), dispose(arrays->starts);
    dispose(arrays->branch);
  }
}

static void test_all_quantized(nibble_float type) {
  static const size_t shapes[][4] = {{1, 64, 1, 0},     {2, 64, 15, 32},   {3, 192, 16, 48},
                                     {4, 64, 17, 16},   {5, 128, 31, 80},  {6, 1024, 33, 32},
                                     {7, 1088, 48, 16}, {13, 2112, 65, 32}};
  for (size_t i = 0; i < COUNT(shapes); i++) {
    for (nibble_activation_codes kind = 0; kind <= NIBBLE_CODES_S8_PAIRED; kind++) {
      test_quantized(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], kind, type);
    }
  }
}

/// The quantizer's kernels; n is a multiple of NIBBLE_GROUP, weights are below 1.
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

static void test_set(void) {
  static const size_t solver_shapes[][3] = {{1, 64, 4}, {4, 64, 16}, {7, 192, 32}, {130, 128, 20}};
  for (size_t i = 0; i < COUNT(solver_shapes); i++) {
    test_solver(solver_shapes[i][0], solver_shapes[i][1], solver_shapes[i][2]);
  }
  for (size_t count = 16; count <= 256; count *= 2) test_feedback(count);
  test_all_int8_attention();
  for (nibble_float type = NIBBLE_F32; type <= NIBBLE_BF16; type++) {
    test_all_attention(type);
    test_all_quantized(type);
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
  for (nibble_limit limit = NIBBLE_LIMIT_INT8; limit <= NIBBLE_LIMIT_F32; limit++) {
    uint64_t once = nibble_run_limit(tested->isa, limit, 1);
    expect("limit", limit, nibble_run_limit(tested->isa, limit, 100) == 100 * once);
  }
}

int main(void) {
  plain = nibble_kernels_for(NIBBLE_ISA_PLAIN);
  for (nibble_isa isa = NIBBLE_ISA_PLAIN + 1; isa < NIBBLE_ISA_COUNT; isa++) {
    tested = nibble_kernels_for(isa);
    if (!tested) continue;
    printf("testing %s\n", tested->name);
    test_set();
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0;
}
