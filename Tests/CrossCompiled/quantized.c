// 4-bit layers.
#include "check.h"

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

static void test_all_of_type(nibble_float type) {
  static const size_t shapes[][4] = {{1, 64, 1, 0},     {2, 64, 15, 32},   {3, 192, 16, 48},
                                     {4, 64, 17, 16},   {5, 128, 31, 80},  {6, 1024, 33, 32},
                                     {7, 1088, 48, 16}, {13, 2112, 65, 32}};
  for (size_t i = 0; i < COUNT(shapes); i++) {
    for (nibble_activation_codes kind = 0; kind <= NIBBLE_CODES_S8_PAIRED; kind++) {
      test_quantized(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], kind, type);
    }
  }
}

void test_quantized_kernels(void) {
  for (nibble_float type = NIBBLE_F32; type <= NIBBLE_BF16; type++) test_all_of_type(type);
}
