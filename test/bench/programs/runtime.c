// Runtime of the benchmark programs: finds UART and PSCI conduit in the device tree, runs bench() between two readings of
// the virtual counter, prints one line and powers off.
#include "bench.h"

u64 hypercall(u64 id, bool smc);

static volatile u32 *uart;
static bool conduit_smc;
static const char *bootargs = "";

static u32 be32(const u8 *p) { return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3]; }

void *memcpy(void *to, const void *from, size_t n) {
  u8 *t = to;
  const u8 *f = from;
  while (n--) *t++ = *f++;
  return to;
}

void *memset(void *to, int value, size_t n) {
  u8 *t = to;
  while (n--) *t++ = (u8)value;
  return to;
}

static size_t length(const char *s) {
  size_t n = 0;
  while (s[n]) n++;
  return n;
}

static bool equal(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

static bool in_list(const u8 *list, u32 size, const char *wanted) {
  for (u32 at = 0; at < size; at += length((const char *)list + at) + 1)
    if (equal((const char *)list + at, wanted)) return true;
  return false;
}

// Devicetree specification 0.4, chapter 5. Buses below the root are of no interest here.
static void read_tree(const u8 *tree) {
  if (be32(tree) != 0xd00dfeed) return;
  const u8 *p = tree + be32(tree + 8);
  const char *strings = (const char *)tree + be32(tree + 12);
  bool is_uart = false;
  const u8 *reg = 0;
  for (;;) {
    u32 token = be32(p);
    p += 4;
    if (token == 9) return;
    if (token == 4) continue;
    if (token == 1 || token == 2) {
      if (is_uart && reg) uart = (u32 *)((u64)be32(reg) << 32 | be32(reg + 4));
      is_uart = false;
      reg = 0;
      if (token == 1) p += (length((const char *)p) + 4) & ~3ul;
      continue;
    }
    u32 size = be32(p);
    const char *name = strings + be32(p + 4);
    const u8 *value = p + 8;
    p += 8 + ((size + 3) & ~3u);
    if (equal(name, "compatible") && in_list(value, size, "arm,pl011")) is_uart = true;
    if (equal(name, "reg") && size >= 16) reg = value;
    if (equal(name, "method")) conduit_smc = equal((const char *)value, "smc");
    if (equal(name, "bootargs")) bootargs = (const char *)value;
  }
}

static void put(char c) {
  if (!uart) return;
  while (uart[6] & 0x20) { // UARTFR.TXFF
  }
  uart[0] = (u8)c;
}

static void print(const char *s) {
  while (*s) put(*s++);
}

static void print_number(u64 n, u32 base) {
  char digits[24];
  int i = 0;
  do digits[i++] = "0123456789abcdef"[n % base];
  while (n /= base);
  while (i) put(digits[--i]);
}

static u32 iterations(void) {
  const char *s = bootargs;
  if (s[0] != 'n' || s[1] != '=') return bench_iterations;
  u32 n = 0;
  for (s += 2; *s >= '0' && *s <= '9'; s++) n = n * 10 + (u32)(*s - '0');
  return n;
}

static u64 counter(void) {
  u64 ticks;
  __asm__ volatile("isb\n\tmrs %0, CNTVCT_EL0" : "=r"(ticks)::"memory");
  return ticks;
}

void failed(u64 esr, u64 elr, u64 far) {
  print("exception esr=0x");
  print_number(esr, 16);
  print(" elr=0x");
  print_number(elr, 16);
  print(" far=0x");
  print_number(far, 16);
  print("\n");
  hypercall(0x84000008, conduit_smc);
  for (;;) {
  }
}

void start_c(const u8 *tree) {
  read_tree(tree);
  u64 hz;
  __asm__("mrs %0, CNTFRQ_EL0" : "=r"(hz));
  u32 n = iterations();
  // Warm-up: what is measured is the steady state of caches and translators.
  u32 warm = bench(n / 20 + 1);
  u64 from = counter();
  u32 sum = bench(n);
  u64 ticks = counter() - from;
  print("bench ");
  print(bench_name);
  print(" iterations=");
  print_number(n, 10);
  print(" ticks=");
  print_number(ticks, 10);
  print(" hz=");
  print_number(hz, 10);
  print(" checksum=0x");
  print_number(mix(sum, warm), 16);
  print("\n");
  hypercall(0x84000008, conduit_smc); // SYSTEM_OFF
}
