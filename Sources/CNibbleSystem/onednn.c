#include "onednn.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static pthread_once_t engine_once = PTHREAD_ONCE_INIT;
static dnnl_engine_t engine;
static void (*set_thread_count)(int);

static void make_engine(void) {
  if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
  // oneDNN may be built on OpenMP, on TBB or on no threads: only the first has this function, and
  // it is found in whichever OpenMP library came with oneDNN.
  set_thread_count = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
}

dnnl_engine_t nibble_dnn_engine(void) {
  static _Thread_local bool alone;
  pthread_once(&engine_once, make_engine);
  if (!alone && set_thread_count) set_thread_count(1);
  alone = true;
  return engine;
}

dnnl_stream_t nibble_dnn_stream(void) {
  static _Thread_local dnnl_stream_t stream;
  dnnl_engine_t on = nibble_dnn_engine();
  if (!stream && dnnl_stream_create(&stream, on, dnnl_stream_default_flags) != dnnl_success)
    stream = NULL;
  return stream;
}

nibble_descriptor nibble_dnn_strided(int rank, const dnnl_dim_t *extents, dnnl_data_type_t type,
                                     const dnnl_dim_t *strides) {
  nibble_descriptor descriptor;
#if DNNL_VERSION_MAJOR >= 3
  if (dnnl_memory_desc_create_with_strides(&descriptor, rank, extents, type, strides)) return NULL;
#else
  memset(&descriptor, 0, sizeof descriptor);
  dnnl_memory_desc_init_by_strides(&descriptor, rank, extents, type, strides);
#endif
  return descriptor;
}

nibble_descriptor nibble_dnn_any(int rank, const dnnl_dim_t *extents, dnnl_data_type_t type) {
  nibble_descriptor descriptor;
#if DNNL_VERSION_MAJOR >= 3
  if (dnnl_memory_desc_create_with_tag(&descriptor, rank, extents, type, dnnl_format_tag_any))
    return NULL;
#else
  memset(&descriptor, 0, sizeof descriptor);
  dnnl_memory_desc_init_by_tag(&descriptor, rank, extents, type, dnnl_format_tag_any);
#endif
  return descriptor;
}

nibble_descriptor nibble_dnn_copy(nibble_descriptor_view descriptor) {
#if DNNL_VERSION_MAJOR >= 3
  nibble_descriptor copy = NULL;
  dnnl_memory_desc_clone(&copy, descriptor);
  return copy;
#else
  return *descriptor;
#endif
}

void nibble_dnn_release(nibble_descriptor *descriptor) {
#if DNNL_VERSION_MAJOR >= 3
  if (*descriptor) dnnl_memory_desc_destroy(*descriptor);
  *descriptor = NULL;
#else
  (void)descriptor;
#endif
}

static void append(dnnl_post_ops_t operations, dnnl_alg_kind_t kind, float alpha) {
#if DNNL_VERSION_MAJOR >= 3
  dnnl_post_ops_append_eltwise(operations, kind, alpha, 0);
#else
  dnnl_post_ops_append_eltwise(operations, 1, kind, alpha, 0);
#endif
}

static void append_sum(dnnl_post_ops_t operations) {
#if DNNL_VERSION_MAJOR >= 3
  dnnl_post_ops_append_sum(operations, 1, 0, dnnl_data_type_undef);
#else
  dnnl_post_ops_append_sum(operations, 1);
#endif
}

dnnl_primitive_attr_t nibble_dnn_attributes(bool accumulates, nibble_dnn_activation activation) {
  dnnl_primitive_attr_t attributes;
  if (dnnl_primitive_attr_create(&attributes) != dnnl_success) return NULL;
  dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
  dnnl_post_ops_t operations;
  if (dnnl_post_ops_create(&operations) == dnnl_success) {
    if (accumulates) append_sum(operations);
    if (activation == NIBBLE_DNN_GELU_TANH) append(operations, dnnl_eltwise_gelu_tanh, 0);
    if (activation == NIBBLE_DNN_GELU_ERF) append(operations, dnnl_eltwise_gelu_erf, 0);
    if (activation == NIBBLE_DNN_QUICK_GELU) append(operations, dnnl_eltwise_swish, 1.702f);
    dnnl_primitive_attr_set_post_ops(attributes, operations);
    dnnl_post_ops_destroy(operations);
  }
  return attributes;
}

int nibble_dnn_execute(dnnl_primitive_t primitive, const nibble_argument *arguments, int count) {
  dnnl_exec_arg_t executed[NIBBLE_MAX_ARGUMENTS];
  int made = 0, status = 0;
  while (made < count && !status) {
    const nibble_argument *argument = &arguments[made];
    // oneDNN takes even its inputs as writable addresses.
    status = dnnl_memory_create(&executed[made].memory, argument->descriptor, nibble_dnn_engine(),
                                (void *)argument->address);
    executed[made].arg = argument->role;
    if (!status) made++;
  }
  if (!status) status = dnnl_primitive_execute(primitive, nibble_dnn_stream(), made, executed);
  if (!status) status = dnnl_stream_wait(nibble_dnn_stream());
  while (made > 0) dnnl_memory_destroy(executed[--made].memory);
  return status;
}

bool nibble_dnn_has_bf16(void) {
#if defined(__x86_64__)
  // The enumeration is a set of bits in versions 2.6 and later: every set with native bf16 includes
  // this one.
  int needed = dnnl_cpu_isa_avx512_core_bf16;
  return ((int)dnnl_get_effective_cpu_isa() & needed) == needed;
#else
  return false;
#endif
}

int nibble_dnn_version(void) {
  const dnnl_version_t *version = dnnl_version();
  return version->major * 10000 + version->minor * 100 + version->patch;
}
