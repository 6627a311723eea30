// Linear equations in double precision: LU decomposition with partial pivoting, then substitution; checked by the residual.
#include "bench.h"

const char bench_name[] = "linpack";
const u32 bench_iterations = 90;

#define N 100
static double a[N][N], b[N], x[N];
static u32 pivots[N];

static void fill(void) {
  u32 state = 1325;
  for (u32 i = 0; i < N; i++) {
    b[i] = 0;
    for (u32 j = 0; j < N; j++) {
      a[i][j] = ((double)(next_random(&state) & 0xffff) - 32768.0) / 16384.0;
      b[i] += a[i][j];
    }
  }
}

static double magnitude(double v) { return v < 0 ? -v : v; }

// y += factor * x
__attribute__((noinline)) static void add_scaled(u32 n, double factor, const double *from, double *to) {
  for (u32 i = 0; i < n; i++) to[i] += factor * from[i];
}

static void decompose(void) {
  for (u32 k = 0; k < N; k++) {
    u32 best = k;
    for (u32 i = k + 1; i < N; i++)
      if (magnitude(a[i][k]) > magnitude(a[best][k])) best = i;
    pivots[k] = best;
    if (best != k)
      for (u32 j = 0; j < N; j++) {
        double t = a[k][j];
        a[k][j] = a[best][j];
        a[best][j] = t;
      }
    double inverse = 1.0 / a[k][k];
    for (u32 i = k + 1; i < N; i++) {
      double factor = a[i][k] * inverse;
      a[i][k] = factor;
      add_scaled(N - k - 1, -factor, &a[k][k + 1], &a[i][k + 1]);
    }
  }
}

static void solve(void) {
  for (u32 k = 0; k < N; k++) {
    double t = b[pivots[k]];
    b[pivots[k]] = b[k];
    b[k] = t;
  }
  for (u32 i = 0; i < N; i++) {
    double s = b[i];
    for (u32 j = 0; j < i; j++) s -= a[i][j] * x[j];
    x[i] = s;
  }
  for (u32 i = N; i-- > 0;) {
    double s = x[i];
    for (u32 j = i + 1; j < N; j++) s -= a[i][j] * x[j];
    x[i] = s / a[i][i];
  }
}

u32 bench(u32 iterations) {
  u32 sum = 0;
  for (u32 n = 0; n < iterations; n++) {
    fill();
    decompose();
    solve();
    // The solution is all ones, as b is the sum of each row.
    double error = 0;
    for (u32 i = 0; i < N; i++) error += magnitude(x[i] - 1.0);
    union {
      double d;
      u64 u;
    } bits = {.d = error};
    sum = mix(mix(sum, (u32)bits.u), (u32)(bits.u >> 32));
    sum = mix(sum, error < 1e-6);
  }
  return sum;
}
