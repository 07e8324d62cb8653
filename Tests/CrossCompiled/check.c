#include "check.h"

#include <math.h>
#include <stdio.h>

const nibble_kernels *plain, *tested;
int passed, failed;

void check(const char *what, size_t n, array actual, array expected, double bound) {
  bool good = is_intact(actual);
  size_t worst_row = 0, worst_column = 0;
  double worst = -1;
  for (size_t row = 0; row < actual.rows; row++) {
    for (size_t column = 0; column < actual.columns; column++) {
      double x = get(actual, row, column), y = get(expected, row, column);
      double allowed = bound + 2 * roundoff(actual.type) * (fabs(y) + bound);
      double error = x == y || (isnan(x) && isnan(y)) ? 0 : fabs(x - y) / allowed;
      if (!(error <= worst)) worst = error, worst_row = row, worst_column = column;
    }
  }
  if (good && worst <= 1) {
    passed++;
    return;
  }
  failed++;
  printf("%s: %s, type %d, n %zu: %s, worst at %zu, %zu: %g, expected %g, %g times its bound\n",
         tested->name, what, (int)actual.type, n, good ? "in its array" : "WROTE OUTSIDE",
         worst_row, worst_column, get(actual, worst_row, worst_column),
         get(expected, worst_row, worst_column), worst);
}

void expect(const char *what, size_t n, bool good) {
  if (good) {
    passed++;
  } else {
    failed++;
    printf("%s: %s, n %zu: failed\n", tested->name, what, n);
  }
}
