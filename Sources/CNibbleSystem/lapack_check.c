// Whether a LAPACK computes rightly.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lapack.h"

// What is asked for later has about these sizes: a low-rank branch's rank and some more, the blocks
// of a Cholesky factorization. From 128 or so on libraries take other paths, with their kernels for
// blocks, which are what goes wrong; odd sizes reach the kernels' edges.
static const size_t sizes[] = {48, 131, 208};
enum { MOST = 208 };

// Backward stable routines are off by a small multiple of n · 2^-53 = 2e-14, relative to the
// matrix, whose elements are below 1 but for a diagonal of n; wrong kernels are off in the first
// digits.
static const double tolerance = 1e-10 * MOST;

/// -1 ... 1, the same in every run.
static double next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(int64_t)(*state) * 0x1p-63;
}

static void fill_symmetric(size_t n, double diagonal, double *a) {
  uint64_t state = n;
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = next_random(&state);
    a[i * n + i] += diagonal;
  }
}

/// NaN counts as far.
static bool is_near(double x, double y) {
  double difference = x - y;
  return difference < tolerance && -difference < tolerance;
}

/// Whether vᵀ diag(values) v is a and the rows of v are orthonormal.
static bool are_eigenvectors(size_t n, const double *a, const double *v, const double *values) {
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j <= i; j++) {
      double product = 0, sum = 0;
      for (size_t k = 0; k < n; k++) {
        product += v[i * n + k] * v[j * n + k];
        sum += v[k * n + i] * values[k] * v[k * n + j];
      }
      if (!is_near(product, i == j) || !is_near(sum, a[i * n + j])) return false;
    }
    if (i > 0 && !(values[i] >= values[i - 1])) return false;
  }
  return true;
}

/// Whether l lᵀ is a.
static bool is_factor(size_t n, const double *a, const double *l) {
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j <= i; j++) {
      double sum = 0;
      for (size_t k = 0; k <= j; k++) sum += l[i * n + k] * l[j * n + k];
      if (!is_near(sum, a[i * n + j])) return false;
    }
  }
  return true;
}

/// Whether l inverse is the unit matrix.
static bool is_inverse(size_t n, const double *l, const double *inverse) {
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j <= i; j++) {
      double sum = 0;
      for (size_t k = j; k <= i; k++) sum += l[i * n + k] * inverse[k * n + j];
      if (!is_near(sum, i == j)) return false;
    }
  }
  return true;
}

static const char *fault_of_size(const lapack_routines *routines, size_t n, double *memory) {
  double *a = memory, *result = a + n * n, *other = result + n * n, *values = other + n * n;
  size_t bytes = n * n * sizeof(double);
  fill_symmetric(n, 0, a);
  memcpy(result, a, bytes);
  if (nibble_eigen_with(routines, n, result, values) || !are_eigenvectors(n, a, result, values)) {
    return "dsyevd";
  }
  fill_symmetric(n, (double)n, a);
  memcpy(result, a, bytes);
  if (nibble_cholesky_with(routines, n, result) || !is_factor(n, a, result)) return "dpotrf";
  memcpy(other, result, bytes);
  if (nibble_inverse_with(routines, n, other) || !is_inverse(n, result, other)) return "dtrtri";
  return NULL;
}

const char *nibble_lapack_fault(const lapack_routines *routines) {
  double *memory = calloc(3 * MOST * MOST + MOST, sizeof(double));
  if (!memory) return "memory";
  const char *fault = NULL;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !fault; i++) {
    fault = fault_of_size(routines, sizes[i], memory);
  }
  free(memory);
  return fault;
}
