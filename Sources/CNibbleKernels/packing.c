// The CPU's order of 4-bit weights, as nibble_quantized.h describes it.
#include <string.h>

#include "nibble_quantized.h"

enum { TILE = NIBBLE_TILE_OUTPUTS, GROUP = NIBBLE_GROUP };

static size_t padded_outputs(size_t out) {
  return (out + TILE - 1) / TILE * TILE;
}

static size_t padded_rank(size_t rank) {
  return (rank + NIBBLE_RANK_MULTIPLE - 1) / NIBBLE_RANK_MULTIPLE * NIBBLE_RANK_MULTIPLE;
}

size_t nibble_packed_codes_bytes(size_t in, size_t out) {
  return padded_outputs(out) * (in / 2);
}

size_t nibble_packed_scales_bytes(size_t in, size_t out) {
  return padded_outputs(out) * (in / GROUP) * sizeof(uint16_t);
}

size_t nibble_packed_up_bytes(size_t out, size_t rank) {
  return padded_outputs(out) * padded_rank(rank) * sizeof(uint16_t);
}

size_t nibble_packed_down_bytes(size_t in, size_t rank) {
  return padded_rank(rank) * in * sizeof(uint16_t);
}

/// The f32 sums of 32 outputs.
size_t nibble_quantized_scratch_bytes(size_t rows) {
  return rows * 2 * TILE * sizeof(float);
}

/// The byte of a code.
static size_t byte_of(size_t in, size_t output, size_t input) {
  return ((output / TILE) * (in / 8) + input / 8) * 64 + 4 * (output % TILE) + input % 4;
}

void nibble_pack_codes(const int8_t *codes, int offset, size_t in, size_t out, uint8_t *packed) {
  memset(packed, 0x88, nibble_packed_codes_bytes(in, out));
  for (size_t output = 0; output < out; output++) {
    const int8_t *row = codes + output * in;
    for (size_t input = 0; input < in; input += 8) {
      for (size_t i = input; i < input + 4; i++) {
        unsigned low = (unsigned)(row[i] + offset) & 15,
                 high = (unsigned)(row[i + 4] + offset) & 15;
        packed[byte_of(in, output, i)] = (uint8_t)(low | high << 4);
      }
    }
  }
}

void nibble_unpack_codes(const uint8_t *packed, int offset, size_t in, size_t out, int8_t *codes) {
  for (size_t output = 0; output < out; output++) {
    for (size_t input = 0; input < in; input++) {
      uint8_t byte = packed[byte_of(in, output, input)];
      codes[output * in + input] = (int8_t)((input % 8 < 4 ? byte & 15 : byte >> 4) - offset);
    }
  }
}

/// Moves [out, columns] to tiles of 16 outputs whose columns follow each other: the scales of all
/// groups, the ranks of the up-projection.
static void pack_columns(const uint16_t *x, size_t out, size_t columns, size_t padded,
                         uint16_t *packed) {
  memset(packed, 0, padded_outputs(out) * padded * sizeof *packed);
  for (size_t output = 0; output < out; output++) {
    for (size_t column = 0; column < columns; column++) {
      size_t index = (output / TILE * padded + column) * TILE + output % TILE;
      packed[index] = x[output * columns + column];
    }
  }
}

void nibble_pack_scales(const uint16_t *scales, size_t in, size_t out, uint16_t *packed) {
  pack_columns(scales, out, in / GROUP, in / GROUP, packed);
}

void nibble_unpack_scales(const uint16_t *packed, size_t in, size_t out, uint16_t *scales) {
  size_t groups = in / GROUP;
  for (size_t output = 0; output < out; output++) {
    for (size_t group = 0; group < groups; group++) {
      scales[output * groups + group] =
          packed[(output / TILE * groups + group) * TILE + output % TILE];
    }
  }
}

void nibble_pack_up(const uint16_t *up, size_t out, size_t rank, uint16_t *packed) {
  pack_columns(up, out, rank, padded_rank(rank), packed);
}

void nibble_pack_down(const uint16_t *down, size_t in, size_t rank, uint16_t *packed) {
  size_t padded = padded_rank(rank);
  memset(packed, 0, nibble_packed_down_bytes(in, rank));
  for (size_t r = 0; r < rank; r++) {
    for (size_t input = 0; input < in; input++) {
      packed[(input / 2 * padded + r) * 2 + input % 2] = down[r * in + input];
    }
  }
}
