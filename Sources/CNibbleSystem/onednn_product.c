#include <stdlib.h>

#include "onednn.h"

// oneDNN adds up all terms of an output one after the other in one f32 accumulator, whose error
// grows with their number. Products of f32 are the reference for all others, so their sums are made
// in pieces of this many terms, as BLAS libraries do. bf16 operands are far less exact than that.
enum { TERMS_OF_PIECE = 128 };

/// The terms of a product that are added up in one go.
typedef struct piece {
  dnnl_primitive_t primitive;
  nibble_descriptor x, w, bias, y, scratch;
  bool has_bias;
} piece;

struct nibble_product {
  /// All but the last have TERMS_OF_PIECE terms; the last also adds the bias and applies the
  /// activation.
  piece first, middle, last;
  size_t count;
};

static int choose(const piece *piece, dnnl_primitive_attr_t attributes,
                  dnnl_primitive_desc_t *chosen) {
  nibble_descriptor_view bias = piece->has_bias ? NIBBLE_VIEW(piece->bias) : NULL;
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_matmul_primitive_desc_create(chosen, nibble_dnn_engine(), piece->x, piece->w, bias,
                                           piece->y, attributes);
#else
  dnnl_matmul_desc_t description;
  int status = dnnl_matmul_desc_init(&description, &piece->x, &piece->w, bias, &piece->y);
  if (status) return status;
  return dnnl_primitive_desc_create(chosen, &description, attributes, nibble_dnn_engine(), NULL);
#endif
}

/// Compiles a piece of `shape->in` terms; it is added to y where `accumulates`.
static int compile(piece *piece, const nibble_product_shape *shape, bool accumulates) {
  dnnl_data_type_t input = nibble_dnn_data_type(shape->input);
  dnnl_dim_t rows = (dnnl_dim_t)shape->rows, in = (dnnl_dim_t)shape->in,
             out = (dnnl_dim_t)shape->out;
  piece->has_bias = shape->has_bias;
  piece->x = nibble_dnn_strided(2, (dnnl_dim_t[]){rows, in}, input,
                                (dnnl_dim_t[]){(dnnl_dim_t)shape->x_stride, 1});
  piece->w = nibble_dnn_strided(2, (dnnl_dim_t[]){in, out}, input,
                                (dnnl_dim_t[]){1, (dnnl_dim_t)shape->w_stride});
  piece->bias = nibble_dnn_strided(2, (dnnl_dim_t[]){1, out}, dnnl_f32, (dnnl_dim_t[]){out, 1});
  piece->y = nibble_dnn_strided(2, (dnnl_dim_t[]){rows, out}, nibble_dnn_data_type(shape->output),
                                (dnnl_dim_t[]){(dnnl_dim_t)shape->y_stride, 1});
  dnnl_primitive_attr_t attributes = nibble_dnn_attributes(accumulates, shape->activation);
  dnnl_primitive_desc_t chosen = NULL;
  int status = choose(piece, attributes, &chosen);
  if (!status) {
    piece->scratch =
        nibble_dnn_copy(dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0));
    status = dnnl_primitive_create(&piece->primitive, chosen);
    dnnl_primitive_desc_destroy(chosen);
  }
  dnnl_primitive_attr_destroy(attributes);
  return status;
}

int nibble_product_create(const nibble_product_shape *shape, nibble_product **result) {
  struct nibble_product *product = calloc(1, sizeof *product);
  if (!product) return dnnl_out_of_memory;
  // Between pieces the sum lies in the output, which must be as exact as it.
  bool in_pieces = shape->input == NIBBLE_DNN_F32 && shape->output == NIBBLE_DNN_F32;
  product->count =
      in_pieces && shape->in > 0 ? (shape->in + TERMS_OF_PIECE - 1) / TERMS_OF_PIECE : 1;
  nibble_product_shape part = *shape;
  part.in = shape->in - (product->count - 1) * TERMS_OF_PIECE;
  int status = compile(&product->last, &part, product->count > 1);
  part.in = TERMS_OF_PIECE;
  part.has_bias = false;
  part.activation = NIBBLE_DNN_IDENTITY;
  if (!status && product->count > 1) status = compile(&product->first, &part, false);
  if (!status && product->count > 2) status = compile(&product->middle, &part, true);
  if (status) {
    nibble_product_destroy(product);
    return status;
  }
  *result = product;
  return 0;
}

static void discard(piece *piece) {
  // A piece that was never compiled has no descriptors either.
  if (piece->primitive) dnnl_primitive_destroy(piece->primitive);
  nibble_dnn_release(&piece->x);
  nibble_dnn_release(&piece->w);
  nibble_dnn_release(&piece->bias);
  nibble_dnn_release(&piece->y);
  nibble_dnn_release(&piece->scratch);
}

void nibble_product_destroy(nibble_product *product) {
  discard(&product->first);
  discard(&product->middle);
  discard(&product->last);
  free(product);
}

static size_t scratch_bytes(const piece *piece) {
  return piece->primitive ? dnnl_memory_desc_get_size(NIBBLE_VIEW(piece->scratch)) : 0;
}

size_t nibble_product_scratch_bytes(const nibble_product *product) {
  size_t first = scratch_bytes(&product->first), middle = scratch_bytes(&product->middle),
         last = scratch_bytes(&product->last);
  size_t most = first > middle ? first : middle;
  return most > last ? most : last;
}

static int run(const piece *piece, const void *x, const void *w, const float *bias, void *y,
               void *scratch) {
  nibble_argument arguments[NIBBLE_MAX_ARGUMENTS] = {
      {DNNL_ARG_SRC, NIBBLE_VIEW(piece->x), x},
      {DNNL_ARG_WEIGHTS, NIBBLE_VIEW(piece->w), w},
      {DNNL_ARG_DST, NIBBLE_VIEW(piece->y), y},
      {DNNL_ARG_SCRATCHPAD, NIBBLE_VIEW(piece->scratch), scratch},
      {DNNL_ARG_BIAS, NIBBLE_VIEW(piece->bias), bias},
  };
  return nibble_dnn_execute(piece->primitive, arguments, piece->has_bias ? 5 : 4);
}

int nibble_product_run(const nibble_product *product, const void *x, const void *w,
                       const float *bias, void *y, void *scratch) {
  int status = 0;
  for (size_t i = 0; i < product->count && !status; i++) {
    const piece *piece = i + 1 == product->count ? &product->last
                         : i                     ? &product->middle
                                                 : &product->first;
    size_t offset = i * TERMS_OF_PIECE * sizeof(float);
    status = run(piece, (const char *)x + offset, (const char *)w + offset, bias, y, scratch);
  }
  return status;
}
