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

/// Where the 32 bits lie that hold inputs `input` ... `input` + 7 of an output, the first four in
/// the low halves of their bytes.
static size_t word_of(size_t in, size_t output, size_t input) {
  return ((output / TILE) * (in / 8) + input / 8) * 64 + 4 * (output % TILE);
}

static const uint32_t LOW_HALVES = 0x0f0f0f0f, SIGNS = 0x08080808;

void nibble_pack_codes(const int8_t *codes, int offset, size_t in, size_t out, uint8_t *packed) {
  // Adding 8 to a nibble turns its sign over.
  const uint32_t turned = offset == 8 ? SIGNS : 0;
  memset(packed, 0x88, nibble_packed_codes_bytes(in, out));
  for (size_t tile = 0; tile < out; tile += TILE) {
    size_t end = out - tile < TILE ? out : tile + TILE;
    // A group at a time: the 16 rows lie far apart, and their lines are used up before the next.
    for (size_t group = 0; group < in; group += GROUP) {
      for (size_t output = tile; output < end; output++) {
        const int8_t *row = codes + output * in;
        for (size_t input = group; input < group + GROUP; input += 8) {
          uint32_t low, high;
          memcpy(&low, row + input, sizeof low);
          memcpy(&high, row + input + 4, sizeof high);
          uint32_t word = ((low ^ turned) & LOW_HALVES) | ((high ^ turned) & LOW_HALVES) << 4;
          memcpy(packed + word_of(in, output, input), &word, sizeof word);
        }
      }
    }
  }
}

/// The nibbles of four bytes; with `turned` as codes with a sign, which fills the upper half.
static uint32_t codes_of(uint32_t halves, uint32_t turned) {
  uint32_t bits = (halves & LOW_HALVES) ^ turned;
  return bits | (bits & turned) * 0x1e;
}

void nibble_unpack_codes(const uint8_t *packed, int offset, size_t in, size_t out, int8_t *codes) {
  const uint32_t turned = offset == 8 ? SIGNS : 0;
  for (size_t tile = 0; tile < out; tile += TILE) {
    size_t end = out - tile < TILE ? out : tile + TILE;
    for (size_t group = 0; group < in; group += GROUP) {
      for (size_t output = tile; output < end; output++) {
        int8_t *row = codes + output * in;
        for (size_t input = group; input < group + GROUP; input += 8) {
          uint32_t word;
          memcpy(&word, packed + word_of(in, output, input), sizeof word);
          uint32_t low = codes_of(word, turned), high = codes_of(word >> 4, turned);
          memcpy(row + input, &low, sizeof low);
          memcpy(row + input + 4, &high, sizeof high);
        }
      }
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

/// The inverse.
static void unpack_columns(const uint16_t *packed, size_t out, size_t columns, size_t padded,
                           uint16_t *x) {
  for (size_t output = 0; output < out; output++) {
    for (size_t column = 0; column < columns; column++) {
      x[output * columns + column] =
          packed[(output / TILE * padded + column) * TILE + output % TILE];
    }
  }
}

void nibble_unpack_scales(const uint16_t *packed, size_t in, size_t out, uint16_t *scales) {
  unpack_columns(packed, out, in / GROUP, in / GROUP, scales);
}

void nibble_pack_up(const uint16_t *up, size_t out, size_t rank, uint16_t *packed) {
  pack_columns(up, out, rank, padded_rank(rank), packed);
}

void nibble_unpack_up(const uint16_t *packed, size_t out, size_t rank, uint16_t *up) {
  unpack_columns(packed, out, rank, padded_rank(rank), up);
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

void nibble_unpack_down(const uint16_t *packed, size_t in, size_t rank, uint16_t *down) {
  size_t padded = padded_rank(rank);
  for (size_t input = 0; input < in; input++) {
    for (size_t r = 0; r < rank; r++) {
      down[r * in + input] = packed[(input / 2 * padded + r) * 2 + input % 2];
    }
  }
}
