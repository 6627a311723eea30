// Byte at a time: copy, length, compare, upper case, histogram, substring search.
#include "bench.h"

const char bench_name[] = "bytes";
const u32 bench_iterations = 700;

#define SIZE 16384
static u8 text[SIZE], copy[SIZE];
static u32 histogram[256];

__attribute__((noinline)) static void copy_bytes(u8 *to, const u8 *from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = from[i];
}

__attribute__((noinline)) static size_t string_length(const u8 *s) {
  const u8 *p = s;
  while (*p) p++;
  return (size_t)(p - s);
}

__attribute__((noinline)) static int compare(const u8 *a, const u8 *b) {
  while (*a && *a == *b) a++, b++;
  return *a - *b;
}

__attribute__((noinline)) static void upper(u8 *s) {
  for (; *s; s++)
    if (*s >= 'a' && *s <= 'z') *s = (u8)(*s - 32);
}

__attribute__((noinline)) static void count(const u8 *s) {
  for (; *s; s++) histogram[*s]++;
}

__attribute__((noinline)) static u32 search(const u8 *s, const u8 *word) {
  u32 found = 0;
  for (; *s; s++) {
    u32 i = 0;
    while (word[i] && s[i] == word[i]) i++;
    found += word[i] == 0;
  }
  return found;
}

u32 bench(u32 iterations) {
  u32 state = 2463534242u, sum = 0;
  for (u32 i = 0; i < 256; i++) histogram[i] = 0;
  for (u32 i = 0; i < SIZE - 1; i++) text[i] = (u8)(" etaoinshrdluETA"[next_random(&state) & 15]);
  text[SIZE - 1] = 0;
  for (u32 n = 0; n < iterations; n++) {
    text[n % (SIZE - 1)] = (u8)('a' + n % 26);
    copy_bytes(copy, text, SIZE);
    sum = mix(sum, (u32)compare(copy, text));
    sum = mix(sum, (u32)string_length(copy));
    sum = mix(sum, search(copy, (const u8 *)"tin"));
    upper(copy);
    count(copy);
    sum = mix(sum, histogram['T'] + histogram[' ']);
  }
  return sum;
}
