#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nibble_png.h"

// libpng reports an error by longjmp. All that changes between setjmp and longjmp therefore lives
// behind a pointer and not in a local variable, whose value would be undefined afterwards.

// Shared by both directions: what went wrong.
typedef struct {
  nibble_png_status status;
  char *message;
  size_t message_size;
} failure;

static void fail(png_structp png, png_const_charp message) {
  failure *f = png_get_error_ptr(png);
  if (f->status == NIBBLE_PNG_OK) f->status = NIBBLE_PNG_MALFORMED;
  snprintf(f->message, f->message_size, "%s", message);
  png_longjmp(png, 1);
}

static void ignore_warning(png_structp png, png_const_charp message) {
  (void)png;
  (void)message;
}

static void fail_with(png_structp png, nibble_png_status status, const char *message) {
  failure *f = png_get_error_ptr(png);
  f->status = status;
  png_error(png, message);
}

// Reading

typedef struct {
  failure failure;
  png_structp png;
  png_infop info;
  const uint8_t *bytes;
  size_t count;
  size_t position;
  png_bytep *rows;
  size_t channels;  // of a pixel as libpng delivers it: 3, or 4 with alpha
} reader;

static void read_bytes(png_structp png, png_bytep destination, size_t length) {
  reader *r = png_get_io_ptr(png);
  if (length > r->count - r->position) fail_with(png, NIBBLE_PNG_TRUNCATED, "the file ends early");
  memcpy(destination, r->bytes + r->position, length);
  r->position += length;
}

// Limits and strictness, before a byte is read.
static void set_limits(png_structp png) {
  // The sides are checked by check_size, with an error of their own; libpng's limit is PNG's own.
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_chunk_malloc_max(png, NIBBLE_PNG_MAX_TEXT_BYTES);
  // libpng counts down to one, which it reserves.
  png_set_chunk_cache_max(png, NIBBLE_PNG_MAX_TEXTS + 2);
  // A text that cannot be read is an error and not a text less: someone may want to make its
  // picture again.
  png_set_benign_errors(png, 0);
  png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  // Of the optional chunks only the texts (and tRNS) are looked at; a faulty color profile is
  // nobody's trouble here.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
  static const png_byte texts[] = "tEXt\0zTXt\0iTXt";
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_AS_DEFAULT, texts, 3);
}

static void check_size(reader *r, nibble_png_image *image) {
  image->width = png_get_image_width(r->png, r->info);
  image->height = png_get_image_height(r->png, r->info);
  size_t pixels = (size_t)image->width * image->height;
  if (image->width > NIBBLE_PNG_MAX_SIDE || image->height > NIBBLE_PNG_MAX_SIDE ||
      pixels > NIBBLE_PNG_MAX_PIXELS) {
    fail_with(r->png, NIBBLE_PNG_TOO_LARGE, "the picture is larger than is read here");
  }
  // Deflate's shortest code for its longest match is 258 bytes from 2 bits, 1032 to 1. So a short
  // file that announces many pixels is found out before memory is taken for them.
  size_t bits = png_get_bit_depth(r->png, r->info) * (size_t)png_get_channels(r->png, r->info);
  if (pixels * bits / 8 / 1032 > r->count) {
    fail_with(r->png, NIBBLE_PNG_TRUNCATED, "the file is too short for its number of pixels");
  }
}

static void read_pixels(reader *r, nibble_png_image *image) {
  png_set_expand(r->png);
  png_set_scale_16(r->png);
  png_set_gray_to_rgb(r->png);
  png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->info);
  r->channels = png_get_channels(r->png, r->info);

  size_t row_bytes = image->width * r->channels;
  if (row_bytes != png_get_rowbytes(r->png, r->info)) png_error(r->png, "unknown kind of pixel");
  // Zeroed, so that nothing of this process's memory can show in a picture, whatever the file does.
  image->pixels = calloc(image->height, row_bytes);
  r->rows = malloc(image->height * sizeof(png_bytep));
  if (!image->pixels || !r->rows) {
    fail_with(r->png, NIBBLE_PNG_OUT_OF_MEMORY, "no memory for the pixels");
  }
  for (size_t y = 0; y < image->height; y++) r->rows[y] = image->pixels + y * row_bytes;
  png_read_image(r->png, r->rows);
}

static void read_texts(reader *r, nibble_png_image *image) {
  png_textp found = NULL;
  int count = 0;
  png_get_text(r->png, r->info, &found, &count);
  if (count <= 0) return;
  image->texts = calloc((size_t)count, sizeof *image->texts);
  if (!image->texts) fail_with(r->png, NIBBLE_PNG_OUT_OF_MEMORY, "no memory for the texts");
  for (int i = 0; i < count; i++) {
    nibble_png_text *text = &image->texts[image->text_count++];
    text->is_utf8 = found[i].compression >= PNG_ITXT_COMPRESSION_NONE;
    text->key = found[i].key;
    text->text = found[i].text;
    text->length = text->is_utf8 ? found[i].itxt_length : found[i].text_length;
  }
}

static void read_file(reader *r, nibble_png_image *image) {
  if (setjmp(png_jmpbuf(r->png))) return;
  set_limits(r->png);
  png_set_read_fn(r->png, r, read_bytes);
  png_read_info(r->png, r->info);
  check_size(r, image);
  read_pixels(r, image);
  png_read_end(r->png, r->info);
  read_texts(r, image);
}

// Lays RGBA over white and closes the gaps, in place: every pixel is written at or before where it
// was read.
static void flatten(uint8_t *pixels, size_t count) {
  for (size_t i = 0; i < count; i++) {
    unsigned alpha = pixels[4 * i + 3];
    for (size_t channel = 0; channel < 3; channel++) {
      unsigned over_white = pixels[4 * i + channel] * alpha + 255 * (255 - alpha);
      pixels[3 * i + channel] = (uint8_t)((over_white + 127) / 255);
    }
  }
}

nibble_png_status nibble_png_decode(const uint8_t *bytes, size_t count, nibble_png_image *image) {
  memset(image, 0, sizeof *image);
  if (count < 8 || png_sig_cmp(bytes, 0, 8) != 0) return NIBBLE_PNG_NOT_PNG;

  reader *r = calloc(1, sizeof *r);
  if (!r) return NIBBLE_PNG_OUT_OF_MEMORY;
  image->reader = r;
  r->failure.message = image->message;
  r->failure.message_size = sizeof image->message;
  r->bytes = bytes;
  r->count = count;
  r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r->failure, fail, ignore_warning);
  r->info = r->png ? png_create_info_struct(r->png) : NULL;
  if (!r->info) return NIBBLE_PNG_OUT_OF_MEMORY;

  read_file(r, image);
  if (r->failure.status == NIBBLE_PNG_OK && r->channels == 4) {
    flatten(image->pixels, (size_t)image->width * image->height);
  }
  return r->failure.status;
}

void nibble_png_free_image(nibble_png_image *image) {
  reader *r = image->reader;
  if (r) {
    png_destroy_read_struct(&r->png, &r->info, NULL);
    free(r->rows);
    free(r);
  }
  free(image->pixels);
  free(image->texts);
  memset(image, 0, sizeof *image);
}

// Writing

typedef struct {
  failure failure;
  png_structp png;
  png_infop info;
  png_textp texts;
  nibble_png_file *file;
  size_t capacity;
} writer;

// Compressing a short text saves less than it hides from tools that search files for it.
static const size_t kCompressTextsOver = 1024;

static void write_bytes(png_structp png, png_bytep source, size_t length) {
  writer *w = png_get_io_ptr(png);
  nibble_png_file *file = w->file;
  if (length > w->capacity - file->count) {
    size_t capacity = 2 * w->capacity + length;
    uint8_t *grown = realloc(file->bytes, capacity);
    if (!grown) fail_with(png, NIBBLE_PNG_OUT_OF_MEMORY, "no memory for the file");
    file->bytes = grown;
    w->capacity = capacity;
  }
  memcpy(file->bytes + file->count, source, length);
  file->count += length;
}

static void flush_nothing(png_structp png) {
  (void)png;
}

// Everything that zlib and libpng could choose is chosen here: the bytes are to depend on the
// picture alone.
static void set_compression(png_structp png) {
  png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_ALL_FILTERS);
  png_set_compression_level(png, 6);
  png_set_compression_mem_level(png, 8);
  png_set_compression_strategy(png, PNG_Z_DEFAULT_STRATEGY);
  png_set_compression_window_bits(png, 15);
  png_set_text_compression_level(png, 6);
  png_set_text_compression_mem_level(png, 8);
  png_set_text_compression_strategy(png, 0);
  png_set_text_compression_window_bits(png, 15);
}

static void set_texts(writer *w, const nibble_png_text *texts, size_t count) {
  if (count == 0) return;
  w->texts = calloc(count, sizeof *w->texts);
  if (!w->texts) fail_with(w->png, NIBBLE_PNG_OUT_OF_MEMORY, "no memory for the texts");
  for (size_t i = 0; i < count; i++) {
    bool compressed = texts[i].length > kCompressTextsOver;
    png_textp text = &w->texts[i];
    if (texts[i].is_utf8) {
      text->compression = compressed ? PNG_ITXT_COMPRESSION_zTXt : PNG_ITXT_COMPRESSION_NONE;
      text->itxt_length = texts[i].length;
    } else {
      text->compression = compressed ? PNG_TEXT_COMPRESSION_zTXt : PNG_TEXT_COMPRESSION_NONE;
      text->text_length = texts[i].length;
    }
    text->key = (png_charp)texts[i].key;
    text->text = (png_charp)texts[i].text;
  }
  png_set_text(w->png, w->info, w->texts, (int)count);
}

static void write_file(writer *w, const uint8_t *pixels, uint32_t width, uint32_t height,
                       const nibble_png_text *texts, size_t text_count) {
  if (setjmp(png_jmpbuf(w->png))) return;
  png_set_benign_errors(w->png, 0);
  png_set_user_limits(w->png, NIBBLE_PNG_MAX_SIDE, NIBBLE_PNG_MAX_SIDE);
  png_set_write_fn(w->png, w, write_bytes, flush_nothing);
  png_set_IHDR(w->png, w->info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  set_compression(w->png);
  set_texts(w, texts, text_count);
  png_write_info(w->png, w->info);
  for (size_t y = 0; y < height; y++) png_write_row(w->png, pixels + y * width * 3);
  png_write_end(w->png, NULL);
}

nibble_png_status nibble_png_encode(const uint8_t *pixels, uint32_t width, uint32_t height,
                                    const nibble_png_text *texts, size_t text_count,
                                    nibble_png_file *file) {
  memset(file, 0, sizeof *file);
  if (width > NIBBLE_PNG_MAX_SIDE || height > NIBBLE_PNG_MAX_SIDE ||
      (size_t)width * height > NIBBLE_PNG_MAX_PIXELS) {
    return NIBBLE_PNG_TOO_LARGE;
  }
  writer w = {.file = file};
  w.failure.message = file->message;
  w.failure.message_size = sizeof file->message;
  w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w.failure, fail, ignore_warning);
  w.info = w.png ? png_create_info_struct(w.png) : NULL;
  if (w.info) {
    write_file(&w, pixels, width, height, texts, text_count);
  } else {
    w.failure.status = NIBBLE_PNG_OUT_OF_MEMORY;
  }
  png_destroy_write_struct(&w.png, &w.info);
  free(w.texts);
  return w.failure.status;
}

void nibble_png_free_file(nibble_png_file *file) {
  free(file->bytes);
  memset(file, 0, sizeof *file);
}
