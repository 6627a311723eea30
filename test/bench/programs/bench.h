// What a benchmark program is linked with, and what it must have.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

// Name and default number of iterations; the command line's `n=` overrides the latter.
extern const char bench_name[];
extern const u32 bench_iterations;

// Does the work and returns a checksum of its results.
u32 bench(u32 iterations);

// The same random numbers everywhere (xorshift32).
static inline u32 next_random(u32 *state) {
  u32 x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}

static inline u32 mix(u32 sum, u32 value) { return (sum ^ value) * 0x01000193u; }
