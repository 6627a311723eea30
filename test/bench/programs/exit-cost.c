// exit-cost inline|threads EXITS CODE: makes a VM whose real-mode program CODE (hexadecimal, at 0x1000) reads a device's register for ever,
// answers EXITS reads in the simplest loop there is and prints the ns of one. `threads`: one thread runs the vCPU and another
// answers, and they wake each other by futexes, which is the best that two threads that sleep can do. For exit-cost.ts; runs on
// the host.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long check(long result, const char* what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int vcpu;
static struct kvm_run* run;
/** 1: an exit waits for its answer. */
static _Atomic int pending;

static void wait_until(int wanted) {
  while (atomic_load(&pending) != wanted) syscall(SYS_futex, &pending, FUTEX_WAIT_PRIVATE, !wanted, NULL, NULL, 0);
}

static void set(int value) {
  atomic_store(&pending, value);
  syscall(SYS_futex, &pending, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void* run_vcpu(void* nothing) {
  for (;;) {
    check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    set(1);
    wait_until(0);
  }
  return nothing;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  int threads = strcmp(argv[1], "threads") == 0;
  long exits = atol(argv[2]);
  int kvm = (int)check(open("/dev/kvm", O_RDWR), "/dev/kvm");
  int vm = (int)check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  uint8_t* memory = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (size_t n = 0; argv[3][2 * n] != '\0'; n++) {
    unsigned byte;
    if (sscanf(argv[3] + 2 * n, "%2x", &byte) != 1) return 2;
    memory[0x1000 + n] = (uint8_t)byte;
  }
  struct kvm_userspace_memory_region region = {.memory_size = 0x10000, .userspace_addr = (uintptr_t)memory};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  vcpu = (int)check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  size_t size = (size_t)check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  struct kvm_sregs sregs;
  check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  sregs.ds.base = 0xb8000;
  sregs.ds.selector = 0xb800;
  check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  struct kvm_regs regs = {.rip = 0x1000, .rdx = 0x3f8, .rflags = 2};
  check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");

  pthread_t thread;
  if (threads && pthread_create(&thread, NULL, run_vcpu, NULL) != 0) return 1;
  uint32_t value = 0;
  double start = 0;
  // The first ones fill the TLBs.
  for (long n = -100; n < exits; n++) {
    if (n == 0) start = now();
    if (threads) wait_until(1);
    else check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    value++;
    if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write) memcpy(run->mmio.data, &value, run->mmio.len);
    else if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
      memcpy((uint8_t*)run + run->io.data_offset, &value, run->io.size);
    else return 3;
    if (threads) set(0);
  }
  printf("%.1f\n", (now() - start) / (double)exits);
  return 0;
}
