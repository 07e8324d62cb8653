// What the shims over oneDNN share: the engine, types, and the differences between its versions 2
// and 3.
#ifndef NIBBLE_ONEDNN_INTERNAL_H
#define NIBBLE_ONEDNN_INTERNAL_H

#include <oneapi/dnnl/dnnl.h>

#include "nibble_onednn.h"

// Version 2 passes memory descriptors by value and describes an operation before its implementation
// is chosen; version 3 hides descriptors behind pointers and does both in one call.
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t nibble_descriptor;
typedef const_dnnl_memory_desc_t nibble_descriptor_view;
#define NIBBLE_VIEW(descriptor) (descriptor)
#else
typedef dnnl_memory_desc_t nibble_descriptor;
typedef const dnnl_memory_desc_t *nibble_descriptor_view;
#define NIBBLE_VIEW(descriptor) (&(descriptor))
#endif

/// The processor as oneDNN's engine, made at the first call. The calling thread is told to work
/// alone from then on: the thread pool above splits the work, in parts that do not depend on the
/// number of threads.
dnnl_engine_t nibble_dnn_engine(void);

/// The calling thread's stream.
dnnl_stream_t nibble_dnn_stream(void);

static inline dnnl_data_type_t nibble_dnn_data_type(nibble_dnn_type type) {
  return type == NIBBLE_DNN_BF16 ? dnnl_bf16 : dnnl_f32;
}

/// A descriptor of an array with the given strides.
nibble_descriptor nibble_dnn_strided(int rank, const dnnl_dim_t *extents, dnnl_data_type_t type,
                                     const dnnl_dim_t *strides);
/// A descriptor of an array whose layout oneDNN chooses.
nibble_descriptor nibble_dnn_any(int rank, const dnnl_dim_t *extents, dnnl_data_type_t type);
nibble_descriptor nibble_dnn_copy(nibble_descriptor_view descriptor);
void nibble_dnn_release(nibble_descriptor *descriptor);

/// Attributes: scratch memory from the caller; the result added to what the output holds; an
/// activation at the end.
dnnl_primitive_attr_t nibble_dnn_attributes(bool accumulates, nibble_dnn_activation activation);

/// One argument of a primitive: its role, descriptor and address.
typedef struct nibble_argument {
  int role;
  nibble_descriptor_view descriptor;
  const void *address;
} nibble_argument;

/// The largest number of arguments that a primitive here has.
enum { NIBBLE_MAX_ARGUMENTS = 5 };

/// Runs a primitive on the calling thread and waits for it.
int nibble_dnn_execute(dnnl_primitive_t primitive, const nibble_argument *arguments, int count);

#endif
