// Runs one kernel of one instruction set a number of times, for an emulator that counts:
// instructions INDEX OPERATION RUNS. Prints the set's name and the multiply-adds of a run; nothing
// where the processor has no such set, or the set no such operation.
#include <stdio.h>

#include "../memory.h"

enum {
  ROWS = 48,  // whole tiles of every kernel
  IN = 3072,
  OUT = 64,
  RANK = 32,
  KEYS = 512,
  HEAD_DIM = 128
};

/// A bf16 number of a size that occurs; what it is does not matter to what is counted.
static array halves(size_t count) {
  array made = make_bytes(count * 2, 64);
  for (size_t i = 0; i < count; i++) ((uint16_t *)made.start)[i] = (uint16_t)(0x3c00 + i % 64);
  return made;
}

/// Quantizes rows, low-rank down-projection included, or multiplies them.
static double run_layer(const nibble_kernels *kernels, nibble_activation_codes kind, bool multiply,
                        int runs) {
  const size_t groups = IN / NIBBLE_GROUP;
  array codes = make_bytes(nibble_packed_codes_bytes(IN, OUT), 64);
  array smooth = make_random(1, IN, IN, NIBBLE_F32, 1);
  for (size_t i = 0; i < IN; i++) ((float *)smooth.start)[i] += 2;
  nibble_quantized_layer layer = {IN,
                                  OUT,
                                  RANK,
                                  codes.start,
                                  (uint16_t *)halves(nibble_packed_scales_bytes(IN, OUT) / 2).start,
                                  (float *)smooth.start,
                                  (uint16_t *)halves(nibble_packed_down_bytes(IN, RANK) / 2).start,
                                  (uint16_t *)halves(nibble_packed_up_bytes(OUT, RANK) / 2).start,
                                  NULL};
  array x = make_random(ROWS, IN, IN, NIBBLE_BF16, 2), y = make(ROWS, OUT, OUT, NIBBLE_BF16);
  nibble_quantized_rows rows = {(int8_t *)make_bytes(ROWS * IN, 64).start,
                                (float *)make_bytes(ROWS * groups * 4, 64).start,
                                (int32_t *)make_bytes(ROWS * groups * 4, 64).start,
                                (float *)make_bytes(ROWS * RANK * 4, 64).start, NULL};
  nibble_destination to = {.y = y.start, .type = y.type, .stride = y.stride};
  for (int run = 0; run < runs; run++) {
    if (multiply) {
      kernels->quantized_product(&layer, &rows, 0, ROWS, 0, OUT, &to);
    } else {
      kernels->quantize_rows(&layer, kind, x.start, x.type, x.stride, &rows, 0, ROWS);
    }
  }
  return multiply ? (double)ROWS * IN * OUT : (double)ROWS * IN * RANK;
}

static double run_attention(const nibble_attention *attention, nibble_float type, int runs) {
  const size_t queries = attention->query_block;
  array q = make_random(queries, HEAD_DIM, HEAD_DIM, type, 2), out = copy_of(q);
  array k = make_random(KEYS, HEAD_DIM, HEAD_DIM, type, 2), v = copy_of(k);
  nibble_attention_shape shape = {queries,  KEYS,    HEAD_DIM, HEAD_DIM, HEAD_DIM, HEAD_DIM,
                                  HEAD_DIM, 0.0884f, NULL,     0,        false};
  array packed = make_bytes(attention->packed_bytes(&shape), 64);
  array scratch = make_bytes(attention->scratch_bytes(&shape), 64);
  attention->pack(&shape, k.start, v.start, packed.start);
  for (int run = 0; run < runs; run++) {
    attention->run(&shape, q.start, packed.start, out.start, 0, queries, scratch.start);
  }
  return 2.0 * (double)queries * KEYS * HEAD_DIM;
}

static double run_int8_attention(const nibble_int8_attention *attention, int runs) {
  const size_t queries = attention->query_block < ROWS ? ROWS : attention->query_block;
  array q = make_random(queries, HEAD_DIM, HEAD_DIM, NIBBLE_BF16, 2), out = copy_of(q);
  array k = make_random(KEYS, HEAD_DIM, HEAD_DIM, NIBBLE_BF16, 2), v = copy_of(k);
  nibble_int8_attention_shape shape = {.queries = queries,
                                       .keys = KEYS,
                                       .head_dim = HEAD_DIM,
                                       .q_stride = HEAD_DIM,
                                       .k_stride = HEAD_DIM,
                                       .v_stride = HEAD_DIM,
                                       .out_stride = HEAD_DIM,
                                       .scale = 0.0884f};
  array packed = make_bytes(attention->packed_bytes(&shape), 64);
  array scratch = make_bytes(attention->scratch_bytes(&shape), 64);
  for (size_t block = 0; block * NIBBLE_KEY_BLOCK < KEYS; block++) {
    attention->pack(&shape, (uint16_t *)k.start, (uint16_t *)v.start, packed.start, block,
                    scratch.start);
  }
  for (int run = 0; run < runs; run++) {
    attention->run(&shape, (uint16_t *)q.start, packed.start, (uint16_t *)out.start, 0, queries,
                   scratch.start);
  }
  return 2.0 * (double)queries * KEYS * HEAD_DIM;
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  int index = atoi(arguments[1]), runs = atoi(arguments[3]);
  const char *operation = arguments[2];
  if (index < 0 || index >= NIBBLE_ISA_COUNT || !nibble_isa_supported((nibble_isa)index)) return 0;
  const nibble_kernels *kernels = nibble_kernels_for((nibble_isa)index);
  if (!kernels) return 0;
  double macs = 0;
  if (!strcmp(operation, "product")) macs = run_layer(kernels, NIBBLE_CODES_S4, true, runs);
  if (!strcmp(operation, "quantize-int4")) macs = run_layer(kernels, NIBBLE_CODES_S4, false, runs);
  if (!strcmp(operation, "quantize-int8")) macs = run_layer(kernels, NIBBLE_CODES_S8, false, runs);
  if (!strcmp(operation, "attention-f32"))
    macs = run_attention(&kernels->attention_f32, NIBBLE_F32, runs);
  if (!strcmp(operation, "attention-bf16"))
    macs = run_attention(&kernels->attention_bf16, NIBBLE_BF16, runs);
  if (!strcmp(operation, "attention-int8")) {
    if (!kernels->attention_int8) return 0;
    macs = run_int8_attention(kernels->attention_int8, runs);
  }
  printf("%s %.0f\n", kernels->name, macs);
  return macs > 0 ? 0 : 2;
}
