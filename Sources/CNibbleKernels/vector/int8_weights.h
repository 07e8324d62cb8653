// Attention in bytes: how scores become weights, in 16-bit integers.
//
// Whoever includes this defines the functions on words that are declared here.
#ifndef NIBBLE_VECTOR_INT8_WEIGHTS_H
#define NIBBLE_VECTOR_INT8_WEIGHTS_H

#include "int8_packing.h"

/// 16-bit words.
typedef uint16_t words __attribute__((vector_size(WIDTH * 4)));

/// Numbers below 2^31 to words, those from 65536 on to 65535; both vectors' parts of 128 bits in
/// turn.
INLINE words narrow(uints first, uints second);
/// The upper halves of the products.
INLINE words multiply_high(words x, words y);
/// x >> n word by word, 0 where n exceeds 15.
INLINE words shift_right(words x, words n);

/// For factors so large that distances must be moved up: does that beforehand.
static void spread_scores(int32_t *scores, size_t keys, int32_t maximum, uint32_t left) {
  int32_t most = 65536 >> left;
  for (size_t key = 0; key < keys; key++) {
    int32_t distance = maximum - scores[key];
    scores[key] = maximum - ((distance < most ? distance : most) << left);
  }
}

/// What a row's weights are made with.
typedef struct panel_factors {
  ints maximum;
  nibble_exponent_factor exponent;
} panel_factors;

/// T >> n, dithered.
INLINE words weights_of_words(words exponent, words dither) {
  words fraction = exponent << EXPONENT_WHOLE_BITS, value = {};
  value += nibble_weight_polynomial[3];
  UNROLL for (int i = 2; i >= 0; i--) {
    value = nibble_weight_polynomial[i] - multiply_high(fraction, value);
  }
  return shift_right(value, exponent >> EXPONENT_PLACES) + dither;
}

/// The weights of PANEL keys as bytes in the order of the keys, of scores in the order of
/// key_of_lane and dithers in that of key_of_word.
INLINE uints weights_of_panel(const int32_t *scores, const panel_factors *factors,
                              const uint16_t *dither) {
  words weights[2], multiplier = {};
  multiplier += (uint16_t)factors->exponent.multiplier;
  uints distances[TILE_VECTORS];
  UNROLL for (int i = 0; i < TILE_VECTORS; i++) {
    ints score = (ints)load(scores, NIBBLE_F32, i * WIDTH);
    distances[i] = (uints)(factors->maximum - score) >> factors->exponent.right;
  }
  UNROLL for (int i = 0; i < 2; i++) {
    words distance = narrow(distances[2 * i], distances[2 * i + 1]);
    weights[i] = weights_of_words(multiply_high(distance, multiplier),
                                  (words)load(dither + i * 2 * WIDTH, NIBBLE_F32, 0));
  }
  // The upper halves of the words: even bytes from the first vector, odd ones from the second.
  return (uints)(weights[0] >> 8) | ((uints)weights[1] & 0xff00ff00);
}

#endif
