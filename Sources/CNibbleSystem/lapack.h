// LAPACK's routines as a library has them: Fortran's, with 32-bit integers, matrices by columns,
// and the lengths of texts after all other arguments.
#ifndef NIBBLE_LAPACK_ROUTINES_H
#define NIBBLE_LAPACK_ROUTINES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct lapack_routines {
  void (*eigen)(const char *job, const char *triangle, const int *n, double *a, const int *stride,
                double *values, double *work, const int *work_size, int *whole_work,
                const int *whole_work_size, int *info, size_t, size_t);  ///< dsyevd
  void (*cholesky)(const char *triangle, const int *n, double *a, const int *stride, int *info,
                   size_t);  ///< dpotrf
  void (*inverse)(const char *triangle, const char *diagonal, const int *n, double *a,
                  const int *stride, int *info, size_t, size_t);  ///< dtrtri
} lapack_routines;

// The functions of nibble_lapack.h with the routines of a library.
int nibble_eigen_with(const lapack_routines *routines, size_t n, double *a, double *values);
int nibble_cholesky_with(const lapack_routines *routines, size_t n, double *a);
int nibble_inverse_with(const lapack_routines *routines, size_t n, double *l);

/// The name of the first routine that does not solve a problem whose answer can be checked; NULL:
/// all do.
const char *nibble_lapack_fault(const lapack_routines *routines);

#endif
