// Recursive Fibonacci numbers: calls, returns, the stack.
#include "bench.h"

const char bench_name[] = "fib";
const u32 bench_iterations = 10;

__attribute__((noinline, optimize("no-optimize-sibling-calls"))) static u32 fib(u32 n) {
  if (n < 2) return n;
  u32 a = fib(n - 1);
  return a + fib(n - 2);
}

u32 bench(u32 iterations) {
  u32 sum = 0;
  for (u32 n = 0; n < iterations; n++) sum = mix(sum, fib(29 + (n & 1)));
  return sum;
}
