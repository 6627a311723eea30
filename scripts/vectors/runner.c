/*
 * Runs blocks of 1..32 A64 instructions from a given register state and reports the state afterwards.
 * Built for aarch64-linux and run by qemu-user; README.md describes the records.
 *
 * The whole loop lives in the signal handler: every block ends in a signal (code memory is filled with BRK), the kernel
 * has then saved all registers in the ucontext, and returning from the handler loads the next record's. Nothing
 * here may use TPIDR_EL0 (so: no libc that needs thread-local storage) while records run, because it is part of the state.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE 0x40100000ul
#define CODE_SIZE 0x10000ul
#define BLOCK (CODE + CODE_SIZE / 2 - 32) /* long blocks cross a page */
#define DATA 0x40010000ul
#define DATA_SIZE 0x2000ul
#define MAX_WORDS 32
#define BRK_FILL 0xd43c0000u /* brk #0xe000 */

struct input {
  uint32_t count, seed, fpcr, fpsr, nzcv, reserved;
  uint64_t tpidr, x[31], sp, v[64];
  uint32_t words[MAX_WORDS];
};

struct output {
  uint32_t signal, code, fpcr, fpsr, nzcv, changed, length, reserved;
  uint64_t tpidr, pc, address, x[31], sp, v[64];
};

static struct input in;
static uint8_t inbuf[1 << 16], outbuf[1 << 16];
static size_t inpos, inlen, outlen;
static uint64_t pristine[DATA_SIZE / 8];
static uint32_t pristine_seed;
static volatile uint32_t serial, ticked;
static int started;

static long sys3(long n, long a, long b, long c) {
  register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}

static void flush(void) {
  size_t done = 0;
  while (done < outlen) {
    long n = sys3(64, 1, (long)(outbuf + done), (long)(outlen - done));
    if (n <= 0) sys3(94, 1, 0, 0);
    done += (size_t)n;
  }
  outlen = 0;
}

static void put(const void *p, size_t n) {
  if (outlen + n > sizeof outbuf) flush();
  memcpy(outbuf + outlen, p, n);
  outlen += n;
}

static void get(void *p, size_t n) {
  uint8_t *to = p;
  while (n > 0) {
    if (inpos == inlen) {
      flush();
      long r = sys3(63, 0, (long)inbuf, sizeof inbuf);
      if (r <= 0) sys3(94, 0, 0, 0);
      inpos = 0;
      inlen = (size_t)r;
    }
    size_t k = inlen - inpos < n ? inlen - inpos : n;
    memcpy(to, inbuf + inpos, k);
    inpos += k;
    to += k;
    n -= k;
  }
}

/* xorshift32 (Marsaglia); seed 0 stands for an all-zero image. */
static void fill(uint32_t seed) {
  uint32_t s = seed, *p = (uint32_t *)pristine;
  for (size_t i = 0; i < DATA_SIZE / 4; i++) {
    s ^= s << 13;
    s ^= s >> 17;
    s ^= s << 5;
    p[i] = s;
  }
  memcpy((void *)DATA, pristine, DATA_SIZE);
  pristine_seed = seed;
}

static struct fpsimd_context *fpsimd(ucontext_t *uc) {
  struct _aarch64_ctx *c = (struct _aarch64_ctx *)uc->uc_mcontext.__reserved;
  while (c->magic != FPSIMD_MAGIC) c = (struct _aarch64_ctx *)((char *)c + c->size);
  return (struct fpsimd_context *)c;
}

static void report(int signal, siginfo_t *info, ucontext_t *uc) {
  static struct output out;
  const struct fpsimd_context *fp = fpsimd(uc);
  uint64_t pc = uc->uc_mcontext.pc;
  /* A signal outside the block says that the block was left, by its end or by a branch. */
  int inside = pc >= BLOCK && pc < BLOCK + 4 * in.count;
  memset(&out, 0, sizeof out);
  out.signal = inside || signal == SIGALRM ? (uint32_t)signal : 0;
  out.code = inside ? (uint32_t)info->si_code : 0;
  out.address = inside ? (uint64_t)info->si_addr : 0;
  out.fpcr = fp->fpcr;
  out.fpsr = fp->fpsr;
  out.nzcv = (uint32_t)(uc->uc_mcontext.pstate >> 28) & 15;
  __asm__ volatile("mrs %0, tpidr_el0" : "=r"(out.tpidr));
  out.pc = pc;
  memcpy(out.x, uc->uc_mcontext.regs, sizeof out.x);
  out.sp = uc->uc_mcontext.sp;
  memcpy(out.v, fp->vregs, sizeof out.v);

  const uint64_t *now = (const uint64_t *)DATA;
  size_t words = DATA_SIZE / 8, first = 0, last = words;
  while (first < words && now[first] == pristine[first]) first++;
  if (first < words) {
    while (now[last - 1] == pristine[last - 1]) last--;
    out.changed = (uint32_t)first * 8;
    out.length = (uint32_t)(last - first) * 8;
  }
  put(&out, sizeof out);
  if (out.length > 0) {
    put((void *)(DATA + out.changed), out.length);
    memcpy((void *)(DATA + out.changed), (char *)pristine + out.changed, out.length);
  }
  for (uint32_t i = 0; i < in.count; i++) ((uint32_t *)BLOCK)[i] = BRK_FILL;
}

static void handler(int signal, siginfo_t *info, void *context) {
  ucontext_t *uc = context;
  if (signal == SIGALRM) {
    /* An endless loop: the same record for two ticks. */
    if (!started || ticked != serial) {
      ticked = serial;
      return;
    }
  }
  if (started) report(signal, info, uc);
  started = 1;
  get(&in, sizeof in);
  serial++;
  if (in.count == 0 || in.count > MAX_WORDS) sys3(94, 2, 0, 0);
  if (in.seed != pristine_seed) fill(in.seed);
  memcpy((void *)BLOCK, in.words, 4 * in.count);
  __builtin___clear_cache((char *)BLOCK, (char *)BLOCK + 4 * in.count);

  struct fpsimd_context *fp = fpsimd(uc);
  fp->fpcr = in.fpcr;
  fp->fpsr = in.fpsr;
  memcpy(fp->vregs, in.v, sizeof in.v);
  memcpy(uc->uc_mcontext.regs, in.x, sizeof in.x);
  uc->uc_mcontext.sp = in.sp;
  uc->uc_mcontext.pc = BLOCK;
  uc->uc_mcontext.pstate = (uint64_t)(in.nzcv & 15) << 28;
  __asm__ volatile("msr tpidr_el0, %0" : : "r"(in.tpidr));
}

int main(void) {
  int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  uint32_t *code = mmap((void *)CODE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, fixed, -1, 0);
  void *data = mmap((void *)DATA, DATA_SIZE, PROT_READ | PROT_WRITE, fixed, -1, 0);
  stack_t ss = {.ss_size = 1 << 16};
  ss.ss_sp = mmap(0, ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED || data == MAP_FAILED || ss.ss_sp == MAP_FAILED) return 3;
  for (size_t i = 0; i < CODE_SIZE / 4; i++) code[i] = BRK_FILL;
  sigaltstack(&ss, 0);
  struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigfillset(&sa.sa_mask);
  const int caught[] = {SIGILL, SIGTRAP, SIGBUS, SIGSEGV, SIGFPE, SIGALRM};
  for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) sigaction(caught[i], &sa, 0);
  struct itimerval tick = {{0, 300000}, {0, 300000}};
  setitimer(ITIMER_REAL, &tick, 0);
  __asm__ volatile("brk #1");
  return 4;
}
