// libpng without its setjmp: errors come back as a code and a message, files are buffers in memory.
// The format: Portable Network Graphics (PNG) Specification, Second Edition, ISO/IEC 15948:2003.
#ifndef NIBBLE_PNG_H
#define NIBBLE_PNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The longest side that is read or written: 2^16 - 1, what other readers take too.
#define NIBBLE_PNG_MAX_SIDE 65535
// The most pixels that are read or written: 8192 x 8192, which is 192 MiB as RGB.
#define NIBBLE_PNG_MAX_PIXELS (1 << 26)
// The most bytes of one text that is read, unpacked: the node graphs that other programs store take
// up to a few MiB.
#define NIBBLE_PNG_MAX_TEXT_BYTES (4 << 20)
// The most texts that are read, so that all of them together are at most 128 MiB.
#define NIBBLE_PNG_MAX_TEXTS 32

typedef enum {
  NIBBLE_PNG_OK = 0,
  NIBBLE_PNG_NOT_PNG,    // the first eight bytes are not PNG's
  NIBBLE_PNG_TRUNCATED,  // the file ends early, or is too short for the pixels that it announces
  NIBBLE_PNG_MALFORMED,  // a checksum, a chunk, or the compressed data is wrong
  NIBBLE_PNG_TOO_LARGE,  // a side or the number of pixels is over the limits above
  NIBBLE_PNG_OUT_OF_MEMORY,  // no memory for the pixels or the file
} nibble_png_status;

// One text chunk. `key` is Latin-1 and ends with a zero.
typedef struct {
  const char *_Nonnull key;
  const char *_Nonnull text;  // not closed by a zero when read
  size_t length;              // bytes of text
  bool is_utf8;               // else Latin-1: one byte is one Unicode scalar
} nibble_png_text;

// What came out of a file. `pixels` and `texts` belong to it until nibble_png_free_image.
typedef struct {
  uint32_t width;
  uint32_t height;
  uint8_t *_Nullable pixels;  // [height, width, 3] RGB, no padding
  nibble_png_text *_Nullable texts;
  size_t text_count;
  char message[128];       // what is wrong, in libpng's words; empty when all is well
  void *_Nullable reader;  // holds the texts' bytes
} nibble_png_image;

// What goes into a file, and the file. `bytes` belongs to it until nibble_png_free_file.
typedef struct {
  uint8_t *_Nullable bytes;
  size_t count;
  char message[128];
} nibble_png_file;

// Reads a PNG of any kind as 8-bit RGB: palettes are looked up, gray is repeated, 16 bits are
// rounded to 8, transparent pixels lie over white. Gamma and color profiles are not looked at:
// numbers stay as they are. Free the image in every case.
nibble_png_status nibble_png_decode(const uint8_t *_Nullable bytes, size_t count,
                                    nibble_png_image *_Nonnull image);
void nibble_png_free_image(nibble_png_image *_Nonnull image);

// Writes 8-bit RGB, [height, width, 3], with texts. Texts over 1 KiB are compressed. No time goes
// into the file: the same pixels and texts give the same bytes (with the same libpng and zlib).
// Free the file in every case.
nibble_png_status nibble_png_encode(const uint8_t *_Nonnull pixels, uint32_t width, uint32_t height,
                                    const nibble_png_text *_Nullable texts, size_t text_count,
                                    nibble_png_file *_Nonnull file);
void nibble_png_free_file(nibble_png_file *_Nonnull file);

#endif
