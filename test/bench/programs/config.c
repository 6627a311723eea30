// Reads of PCI configuration space: vendor and device of 00:00.0, which the two machines have in common.
#include "bench.h"

const char bench_name[] = "config";
const u32 bench_iterations = 2000000;

// Both boards have ECAM here (highmem), and both have a host bridge 1b36:0008.
static volatile u32 *const ecam = (u32 *)0x4010000000;

u32 bench(u32 iterations) {
  u32 sum = 0;
  for (u32 n = 0; n < iterations; n++) sum = mix(sum, ecam[0]);
  return sum;
}
