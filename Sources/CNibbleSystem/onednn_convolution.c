#include <pthread.h>
#include <stdlib.h>

#include "onednn.h"

struct nibble_convolution {
  dnnl_primitive_t primitive;
  nibble_descriptor x, plain_weights, weights, bias, y, scratch;
};

/// [1, channels, height, width] with the channels innermost in memory.
static nibble_descriptor channels_last(size_t height, size_t width, size_t channels,
                                       dnnl_data_type_t type) {
  dnnl_dim_t h = (dnnl_dim_t)height, w = (dnnl_dim_t)width, c = (dnnl_dim_t)channels;
  return nibble_dnn_strided(4, (dnnl_dim_t[]){1, c, h, w}, type,
                            (dnnl_dim_t[]){h * w * c, 1, w * c, c});
}

// oneDNN before 2.7 keeps the block of input channels that it is trying in a static variable
// (brg_blocking_t::last_ic_block_size; openvinotoolkit/oneDNN pull request 167): two threads that
// choose at once get kernels that read other weights than were packed for them.
static pthread_mutex_t choosing = PTHREAD_MUTEX_INITIALIZER;

static int choose(const struct nibble_convolution *convolution,
                  const nibble_convolution_shape *shape, nibble_descriptor_view weights,
                  dnnl_primitive_attr_t attributes, dnnl_primitive_desc_t *chosen) {
  dnnl_dim_t stride = (dnnl_dim_t)shape->stride;
  dnnl_dim_t strides[] = {stride, stride};
  dnnl_dim_t dilations[] = {0, 0};
  dnnl_dim_t before[] = {(dnnl_dim_t)shape->pad_top, (dnnl_dim_t)shape->pad_left};
  dnnl_dim_t after[] = {(dnnl_dim_t)shape->pad_bottom, (dnnl_dim_t)shape->pad_right};
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_convolution_forward_primitive_desc_create(
      chosen, nibble_dnn_engine(), dnnl_forward_inference, dnnl_convolution_direct, convolution->x,
      weights, convolution->bias, convolution->y, strides, dilations, before, after, attributes);
#else
  dnnl_convolution_desc_t description;
  int status = dnnl_dilated_convolution_forward_desc_init(
      &description, dnnl_forward_inference, dnnl_convolution_direct, &convolution->x, weights,
      &convolution->bias, &convolution->y, strides, dilations, before, after);
  if (status) return status;
  return dnnl_primitive_desc_create(chosen, &description, attributes, nibble_dnn_engine(), NULL);
#endif
}

int nibble_convolution_create(const nibble_convolution_shape *shape, nibble_convolution **result) {
  struct nibble_convolution *convolution = calloc(1, sizeof *convolution);
  if (!convolution) return dnnl_out_of_memory;
  dnnl_data_type_t input = nibble_dnn_data_type(shape->input);
  dnnl_dim_t kernel = (dnnl_dim_t)shape->kernel, in = (dnnl_dim_t)shape->in,
             out = (dnnl_dim_t)shape->out;
  size_t height =
      (shape->height + shape->pad_top + shape->pad_bottom - shape->kernel) / shape->stride + 1;
  size_t width =
      (shape->width + shape->pad_left + shape->pad_right - shape->kernel) / shape->stride + 1;
  dnnl_dim_t extents[] = {out, in, kernel, kernel};
  dnnl_dim_t strides[] = {in * kernel * kernel, kernel * kernel, kernel, 1};
  convolution->x = channels_last(shape->height, shape->width, shape->in, input);
  convolution->y = channels_last(height, width, shape->out, nibble_dnn_data_type(shape->output));
  convolution->bias = nibble_dnn_strided(1, (dnnl_dim_t[]){out}, dnnl_f32, (dnnl_dim_t[]){1});
  convolution->plain_weights = nibble_dnn_strided(4, extents, input, strides);
  nibble_descriptor wanted = nibble_dnn_any(4, extents, input);
  dnnl_primitive_attr_t attributes = nibble_dnn_attributes(false, NIBBLE_DNN_IDENTITY);
  dnnl_primitive_desc_t chosen = NULL;
  pthread_mutex_lock(&choosing);
  int status = choose(convolution, shape, NIBBLE_VIEW(wanted), attributes, &chosen);
  pthread_mutex_unlock(&choosing);
  if (!status) {
    convolution->weights =
        nibble_dnn_copy(dnnl_primitive_desc_query_md(chosen, dnnl_query_weights_md, 0));
    convolution->scratch =
        nibble_dnn_copy(dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0));
    status = dnnl_primitive_create(&convolution->primitive, chosen);
    dnnl_primitive_desc_destroy(chosen);
  }
  dnnl_primitive_attr_destroy(attributes);
  nibble_dnn_release(&wanted);
  if (status) {
    nibble_convolution_destroy(convolution);
    return status;
  }
  *result = convolution;
  return 0;
}

void nibble_convolution_destroy(nibble_convolution *convolution) {
  if (convolution->primitive) dnnl_primitive_destroy(convolution->primitive);
  nibble_dnn_release(&convolution->x);
  nibble_dnn_release(&convolution->plain_weights);
  nibble_dnn_release(&convolution->weights);
  nibble_dnn_release(&convolution->bias);
  nibble_dnn_release(&convolution->y);
  nibble_dnn_release(&convolution->scratch);
  free(convolution);
}

size_t nibble_convolution_scratch_bytes(const nibble_convolution *convolution) {
  return dnnl_memory_desc_get_size(NIBBLE_VIEW(convolution->scratch));
}

size_t nibble_convolution_packed_bytes(const nibble_convolution *convolution) {
  return dnnl_memory_desc_get_size(NIBBLE_VIEW(convolution->weights));
}

bool nibble_convolution_packs_alike(const nibble_convolution *one,
                                    const nibble_convolution *other) {
  return dnnl_memory_desc_equal(NIBBLE_VIEW(one->weights), NIBBLE_VIEW(other->weights));
}

int nibble_convolution_pack(const nibble_convolution *convolution, const void *weights,
                            void *packed) {
  dnnl_primitive_desc_t chosen;
  dnnl_primitive_t reorder;
  int status = dnnl_reorder_primitive_desc_create(
      &chosen, NIBBLE_VIEW(convolution->plain_weights), nibble_dnn_engine(),
      NIBBLE_VIEW(convolution->weights), nibble_dnn_engine(), NULL);
  if (status) return status;
  status = dnnl_primitive_create(&reorder, chosen);
  dnnl_primitive_desc_destroy(chosen);
  if (status) return status;
  nibble_argument arguments[] = {
      {DNNL_ARG_FROM, NIBBLE_VIEW(convolution->plain_weights), weights},
      {DNNL_ARG_TO, NIBBLE_VIEW(convolution->weights), packed},
  };
  status = nibble_dnn_execute(reorder, arguments, 2);
  dnnl_primitive_destroy(reorder);
  return status;
}

int nibble_convolution_run(const nibble_convolution *convolution, const void *x, const void *packed,
                           const float *bias, void *y, void *scratch) {
  nibble_argument arguments[NIBBLE_MAX_ARGUMENTS] = {
      {DNNL_ARG_SRC, NIBBLE_VIEW(convolution->x), x},
      {DNNL_ARG_WEIGHTS, NIBBLE_VIEW(convolution->weights), packed},
      {DNNL_ARG_BIAS, NIBBLE_VIEW(convolution->bias), bias},
      {DNNL_ARG_DST, NIBBLE_VIEW(convolution->y), y},
      {DNNL_ARG_SCRATCHPAD, NIBBLE_VIEW(convolution->scratch), scratch},
  };
  return nibble_dnn_execute(convolution->primitive, arguments, NIBBLE_MAX_ARGUMENTS);
}
