// Sieve of Eratosthenes over half a million odd numbers, one byte each.
#include "bench.h"

const char bench_name[] = "sieve";
const u32 bench_iterations = 40;

#define SIZE 500000
static u8 composite[SIZE];

u32 bench(u32 iterations) {
  u32 sum = 0;
  for (u32 n = 0; n < iterations; n++) {
    for (u32 i = 0; i < SIZE; i++) composite[i] = 0;
    u32 count = 0;
    for (u32 i = 0; i < SIZE; i++) {
      if (composite[i]) continue;
      u32 prime = 2 * i + 3;
      count++;
      for (u32 j = i + prime; j < SIZE; j += prime) composite[j] = 1;
    }
    sum = mix(sum, count);
  }
  return sum;
}
