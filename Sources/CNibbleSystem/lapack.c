// For setenv.
#define _POSIX_C_SOURCE 200809L

#include "lapack.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nibble_lapack.h"

// Where a library is, by the dynamic linker's rules.
#if defined(__APPLE__)
static const char *const standard = "/System/Library/Frameworks/Accelerate.framework/Accelerate";
#else
static const char *const standard = "liblapack.so.3";
#endif

// Debian's reference library beside whatever the alternatives choose, with the BLAS that it is to
// take instead of theirs.
#if defined(__linux__) && defined(__x86_64__)
#define REFERENCE "/usr/lib/x86_64-linux-gnu/"
#elif defined(__linux__) && defined(__aarch64__)
#define REFERENCE "/usr/lib/aarch64-linux-gnu/"
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static lapack_routines routines;
static bool is_usable;
static char description[1024];

static void describe(const char *library, const char *what) {
  size_t used = strlen(description);
  snprintf(description + used, sizeof description - used, "%s%s: %s", used > 0 ? "; " : "", library,
           what);
}

/// The routines of a loaded library; false where it is no LAPACK.
static bool find_routines(void *library, lapack_routines *found) {
  *(void **)&found->eigen = dlsym(library, "dsyevd_");
  *(void **)&found->cholesky = dlsym(library, "dpotrf_");
  *(void **)&found->inverse = dlsym(library, "dtrtri_");
  // OpenBLAS with several threads may add in another order for another number of them.
  void (*set_threads)(int) = NULL;
  *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
  if (set_threads) set_threads(1);
  return found->eigen && found->cholesky && found->inverse;
}

/// Loads and checks a library; it stays loaded if it computes rightly.
static bool try_library(const char *path, const char *label) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    describe(label, dlerror());
    return false;
  }
  lapack_routines found;
  const char *fault = find_routines(library, &found) ? nibble_lapack_fault(&found) : NULL;
  bool is_lapack = found.eigen && found.cholesky && found.inverse;
  if (is_lapack && !fault) {
    routines = found;
    is_usable = true;
    description[0] = 0;
    describe(label, "computes rightly");
    return true;
  }
  char what[128];
  snprintf(what, sizeof what, "its %s computes wrongly", fault ? fault : "");
  describe(label, is_lapack ? what : "it lacks dsyevd, dpotrf or dtrtri");
  dlclose(library);
  return false;
}

#if !defined(__APPLE__)

/// OpenBLAS chooses kernels by the processor when it is loaded; those for Haswell are old and well
/// tried. Without effect on another library, or if the first is still there.
static bool try_with_old_kernels(void) {
  const char *name = "OPENBLAS_CORETYPE";
  if (getenv(name)) return false;
  setenv(name, "Haswell", 1);
  bool good = try_library(standard, "the same with OPENBLAS_CORETYPE=Haswell");
  unsetenv(name);
  return good;
}

#endif

static void load(void) {
  if (try_library(standard, standard)) return;
#if !defined(__APPLE__)
#if defined(__x86_64__)
  if (try_with_old_kernels()) return;
#endif
#if defined(REFERENCE)
  // The linker takes the BLAS of this name that is there already, instead of the alternatives'.
  void *blas = dlopen(REFERENCE "blas/libblas.so.3", RTLD_NOW | RTLD_LOCAL);
  if (try_library(REFERENCE "lapack/liblapack.so.3", REFERENCE "lapack/liblapack.so.3")) return;
  if (blas) dlclose(blas);
#endif
#endif
}

bool nibble_lapack_is_usable(void) {
  pthread_once(&once, load);
  return is_usable;
}

const char *nibble_lapack_description(void) {
  pthread_once(&once, load);
  return description;
}

int nibble_eigen_with(const lapack_routines *with, size_t n, double *a, double *values) {
  int order = (int)n, info = 0;
  // What dsyevd asks for with eigenvectors.
  int work_size = 1 + 6 * order + 2 * order * order, whole_size = 3 + 5 * order;
  double *work = malloc((size_t)work_size * sizeof(double));
  int *whole = malloc((size_t)whole_size * sizeof(int));
  if (work && whole) {
    // The columns of Fortran's matrix are our rows.
    with->eigen("V", "L", &order, a, &order, values, work, &work_size, whole, &whole_size, &info, 1,
                1);
  } else {
    info = -1;
  }
  free(whole);
  free(work);
  return info;
}

int nibble_cholesky_with(const lapack_routines *with, size_t n, double *a) {
  int order = (int)n, info = 0;
  // Our lower triangle is the upper one of Fortran's matrix, and L Lᵀ is its Uᵀ U.
  with->cholesky("U", &order, a, &order, &info, 1);
  return info;
}

int nibble_inverse_with(const lapack_routines *with, size_t n, double *l) {
  int order = (int)n, info = 0;
  with->inverse("U", "N", &order, l, &order, &info, 1, 1);
  return info;
}

int nibble_symmetric_eigen(size_t n, double *a, double *values) {
  return nibble_lapack_is_usable() ? nibble_eigen_with(&routines, n, a, values) : -1;
}

int nibble_cholesky(size_t n, double *a) {
  return nibble_lapack_is_usable() ? nibble_cholesky_with(&routines, n, a) : -1;
}

int nibble_triangular_inverse(size_t n, double *l) {
  return nibble_lapack_is_usable() ? nibble_inverse_with(&routines, n, l) : -1;
}
