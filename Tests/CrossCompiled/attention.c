// Attention in f32, bf16 and bytes.
#include <math.h>

#include "check.h"

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

static void test_all_of_type(nibble_float type) {
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

void test_attention_kernels(void) {
  for (nibble_float type = NIBBLE_F32; type <= NIBBLE_BF16; type++) test_all_of_type(type);
  test_all_int8_attention();
}
