#include <stdlib.h>

#include "onednn.h"

struct nibble_product {
  dnnl_primitive_t primitive;
  nibble_descriptor x, w, bias, y, scratch;
  bool has_bias;
};

static int choose(const struct nibble_product *product, dnnl_primitive_attr_t attributes,
                  dnnl_primitive_desc_t *chosen) {
  nibble_descriptor_view bias = product->has_bias ? NIBBLE_VIEW(product->bias) : NULL;
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_matmul_primitive_desc_create(chosen, nibble_dnn_engine(), product->x, product->w,
                                           bias, product->y, attributes);
#else
  dnnl_matmul_desc_t description;
  int status = dnnl_matmul_desc_init(&description, &product->x, &product->w, bias, &product->y);
  if (status) return status;
  return dnnl_primitive_desc_create(chosen, &description, attributes, nibble_dnn_engine(), NULL);
#endif
}

int nibble_product_create(const nibble_product_shape *shape, nibble_product **result) {
  struct nibble_product *product = calloc(1, sizeof *product);
  if (!product) return dnnl_out_of_memory;
  dnnl_data_type_t input = nibble_dnn_data_type(shape->input);
  dnnl_dim_t rows = (dnnl_dim_t)shape->rows, in = (dnnl_dim_t)shape->in,
             out = (dnnl_dim_t)shape->out;
  product->has_bias = shape->has_bias;
  product->x = nibble_dnn_strided(2, (dnnl_dim_t[]){rows, in}, input,
                                  (dnnl_dim_t[]){(dnnl_dim_t)shape->x_stride, 1});
  product->w = nibble_dnn_strided(2, (dnnl_dim_t[]){in, out}, input,
                                  (dnnl_dim_t[]){1, (dnnl_dim_t)shape->w_stride});
  product->bias = nibble_dnn_strided(2, (dnnl_dim_t[]){1, out}, dnnl_f32, (dnnl_dim_t[]){out, 1});
  product->y = nibble_dnn_strided(2, (dnnl_dim_t[]){rows, out}, nibble_dnn_data_type(shape->output),
                                  (dnnl_dim_t[]){(dnnl_dim_t)shape->y_stride, 1});
  dnnl_primitive_attr_t attributes = nibble_dnn_attributes(shape->activation);
  dnnl_primitive_desc_t chosen = NULL;
  int status = choose(product, attributes, &chosen);
  if (!status) {
    product->scratch =
        nibble_dnn_copy(dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0));
    status = dnnl_primitive_create(&product->primitive, chosen);
    dnnl_primitive_desc_destroy(chosen);
  }
  dnnl_primitive_attr_destroy(attributes);
  if (status) {
    nibble_product_destroy(product);
    return status;
  }
  *result = product;
  return 0;
}

void nibble_product_destroy(nibble_product *product) {
  if (product->primitive) dnnl_primitive_destroy(product->primitive);
  nibble_dnn_release(&product->x);
  nibble_dnn_release(&product->w);
  nibble_dnn_release(&product->bias);
  nibble_dnn_release(&product->y);
  nibble_dnn_release(&product->scratch);
  free(product);
}

size_t nibble_product_scratch_bytes(const nibble_product *product) {
  return dnnl_memory_desc_get_size(NIBBLE_VIEW(product->scratch));
}

int nibble_product_run(const nibble_product *product, const void *x, const void *w,
                       const float *bias, void *y, void *scratch) {
  nibble_argument arguments[NIBBLE_MAX_ARGUMENTS] = {
      {DNNL_ARG_SRC, NIBBLE_VIEW(product->x), x},
      {DNNL_ARG_WEIGHTS, NIBBLE_VIEW(product->w), w},
      {DNNL_ARG_DST, NIBBLE_VIEW(product->y), y},
      {DNNL_ARG_SCRATCHPAD, NIBBLE_VIEW(product->scratch), scratch},
      {DNNL_ARG_BIAS, NIBBLE_VIEW(product->bias), bias},
  };
  return nibble_dnn_execute(product->primitive, arguments, product->has_bias ? 5 : 4);
}
