// Reads of a device register: the PL011's UARTFR, whose handler does next to nothing.
#include "bench.h"

const char bench_name[] = "mmio";
const u32 bench_iterations = 3000000;

static volatile u32 *const uart = (u32 *)0x09000000;

u32 bench(u32 iterations) {
  u32 sum = 0;
  for (u32 n = 0; n < iterations; n++) sum = mix(sum, uart[6] & 0x20);
  return sum;
}
