/*
 * Reads a PTP clock against the guest's own, many times over (PTP_SYS_OFFSET_PRECISE), and prints one line about it:
 *
 *   reads 10000 einval 0 other 0 errno 0 monotonic yes median 83 p99 410 jitter 352
 *
 * How many calls there were, how many of them failed with EINVAL and with another error (`errno` is the last of those), whether the
 * device's time ever went back; over the calls that succeeded, median and 99th percentile of |device - sys_realtime| in ns, and the
 * 99th percentile of how far that difference is from its own median: what is left when the guest's clock is set (-1: none succeeded).
 * It exits with 1 when it cannot open the device; calls that fail are only counted.
 *
 *   ptp-reads [COUNT [DEVICE]]     10000 times /dev/ptp0, without pauses
 *
 * For arm64 and x86-64, without a C library: it is to be small enough for a guest's console. test/support/ptp-reads.ts builds it.
 */
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/ptp_clock.h>

#include <asm/unistd.h>

#define MAX 1000000

/* The ABI of system calls: number and arguments in registers, the result less than 0 for an error. */
static long call(long number, long a, long b, long c)
{
#if defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = 0;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#elif defined(__x86_64__)
	register long r10 __asm__("r10") = 0;
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return result;
#else
#error "arm64 and x86-64 only"
#endif
}

/* A program starts with its arguments on the stack, and in no function of C. */
#if defined(__aarch64__)
__asm__(".globl _start\n_start: mov x0, sp\n bl start\n");
#else
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
#endif

static long long offsets[MAX], distances[MAX];
static char line[256];
static int length;

static void text(const char *s)
{
	while (*s)
		line[length++] = *s++;
}

static void number(const char *name, long long n)
{
	char digits[24];
	int i = 0;
	text(name);
	if (n < 0) {
		line[length++] = '-';
		n = -n;
	}
	do
		digits[i++] = '0' + n % 10;
	while (n /= 10);
	while (i)
		line[length++] = digits[--i];
}

/* Shell's sort: short, and fast enough for the numbers here. */
static void sort(long long *a, int n)
{
	for (int gap = n / 2; gap; gap /= 2)
		for (int i = gap; i < n; i++) {
			long long v = a[i];
			int at = i;
			for (; at >= gap && a[at - gap] > v; at -= gap)
				a[at] = a[at - gap];
			a[at] = v;
		}
}

/* Sorts how far the offsets are from a value, into `distances`. */
static void measure(long long from, int n)
{
	for (int i = 0; i < n; i++)
		distances[i] = offsets[i] < from ? from - offsets[i] : offsets[i] - from;
	sort(distances, n);
}

static long long ns(const struct ptp_clock_time *t)
{
	return t->sec * 1000000000LL + t->nsec;
}

__attribute__((used, noreturn)) void start(long *stack)
{
	const char **arguments = (const char **)(stack + 1);
	const char *device = stack[0] > 2 ? arguments[2] : "/dev/ptp0";
	int count = 10000;
	if (stack[0] > 1) {
		count = 0;
		for (const char *s = arguments[1]; *s && count < MAX / 10; s++)
			count = count * 10 + *s - '0';
	}

	long fd = call(__NR_openat, AT_FDCWD, (long)device, O_RDWR);
	if (fd < 0) {
		number("cannot open it: error ", -fd);
		text("\n");
		call(__NR_write, 1, (long)line, length);
		for (;;)
			call(__NR_exit_group, 1, 0, 0);
	}

	int good = 0, einval = 0, other = 0, monotonic = 1;
	long error = 0;
	long long last = 0;
	for (int i = 0; i < count; i++) {
		static struct ptp_sys_offset_precise t;
		long result = call(__NR_ioctl, fd, PTP_SYS_OFFSET_PRECISE, (long)&t);
		if (result == -EINVAL) {
			einval++;
		} else if (result) {
			other++;
			error = -result;
		} else {
			long long d = ns(&t.device);
			if (d < last)
				monotonic = 0;
			last = d;
			offsets[good++] = d - ns(&t.sys_realtime);
		}
	}

	number("reads ", count);
	number(" einval ", einval);
	number(" other ", other);
	number(" errno ", error);
	text(monotonic ? " monotonic yes" : " monotonic no");
	measure(0, good);
	number(" median ", good ? distances[good / 2] : -1);
	number(" p99 ", good ? distances[good * 99LL / 100] : -1);
	sort(offsets, good);
	measure(offsets[good / 2], good);
	number(" jitter ", good ? distances[good * 99LL / 100] : -1);
	text("\n");
	call(__NR_write, 1, (long)line, length);
	for (;;)
		call(__NR_exit_group, 0, 0, 0);
}
