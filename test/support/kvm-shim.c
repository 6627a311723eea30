// Faults of a host's KVM for tests: a library for LD_PRELOAD that stands before ioctl(). What it shall do is in environment
// variables, all numbers decimal; without any it changes nothing. test/support/native.ts compiles it:
//
//   gcc -shared -fPIC -O1 -o kvm-shim.so kvm-shim.c
//   KVM_SHIM_API_VERSION=11 LD_PRELOAD=./kvm-shim.so node ...
//
//   KVM_SHIM_API_VERSION=N      KVM_GET_API_VERSION answers N
//   KVM_SHIM_WITHOUT=A,B,...    KVM_CHECK_EXTENSION answers 0 for these capabilities (KVM_CAP_* of linux/kvm.h)
//   KVM_SHIM_CREATE_VM_ERRNO=N  KVM_CREATE_VM fails with this errno
//   KVM_SHIM_STUCK_VCPU=N       KVM_RUN of the vCPU that was created as number N never returns, whatever signals come
//   KVM_SHIM_RUN_ERRNO=N        KVM_RUN of every vCPU fails with this errno
//   KVM_SHIM_AFTER=N            ... the last two only after N calls of KVM_RUN in this process
//
// ioctl is not made by way of the C library, so a sanitizer does not see the calls.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS 65536

/** The number of the vCPU that a descriptor is, plus 1. */
static _Atomic unsigned char vcpus[FDS];
static atomic_long runs;

/** The number in an environment variable, or -1. */
static long number(const char* name) {
  const char* text = getenv(name);
  return text == NULL ? -1 : strtol(text, NULL, 10);
}

static int listed(const char* name, long wanted) {
  const char* text = getenv(name);
  while (text != NULL && *text != '\0') {
    char* end;
    if (strtol(text, &end, 10) == wanted && end != text) return 1;
    text = *end == '\0' ? NULL : end + 1;
  }
  return 0;
}

static int run_fault(int fd) {
  long after = number("KVM_SHIM_AFTER");
  if (atomic_fetch_add(&runs, 1) < after) return 0;
  long stuck = number("KVM_SHIM_STUCK_VCPU");
  if (stuck >= 0 && fd >= 0 && fd < FDS && vcpus[fd] == stuck + 1) {
    sigset_t all;
    sigfillset(&all);
    for (;;) ppoll(NULL, 0, NULL, &all);
  }
  long e = number("KVM_SHIM_RUN_ERRNO");
  return e > 0 ? (int)e : 0;
}

int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  unsigned long argument = va_arg(list, unsigned long);
  va_end(list);
  int fault = 0;
  switch (request) {
    case KVM_GET_API_VERSION:
      if (number("KVM_SHIM_API_VERSION") >= 0) return (int)number("KVM_SHIM_API_VERSION");
      break;
    case KVM_CHECK_EXTENSION:
      if (listed("KVM_SHIM_WITHOUT", (long)argument)) return 0;
      break;
    case KVM_CREATE_VM:
      if (number("KVM_SHIM_CREATE_VM_ERRNO") > 0) fault = (int)number("KVM_SHIM_CREATE_VM_ERRNO");
      break;
    case KVM_RUN:
      fault = run_fault(fd);
      break;
    default:
      break;
  }
  if (fault != 0) {
    errno = fault;
    return -1;
  }
  int result = (int)syscall(SYS_ioctl, fd, request, argument);
  if (request == KVM_CREATE_VCPU && result >= 0 && result < FDS) vcpus[result] = (unsigned char)(argument + 1);
  return result;
}
