// The loop of mmio.c over a word of memory: what is left of mmio's time without the device.
#include "bench.h"

const char bench_name[] = "memory";
const u32 bench_iterations = 3000000;

static volatile u32 word[8];

u32 bench(u32 iterations) {
  u32 sum = 0;
  for (u32 n = 0; n < iterations; n++) sum = mix(sum, word[6] & 0x20);
  return sum;
}
