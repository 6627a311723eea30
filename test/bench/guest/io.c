// What the I/O benchmark runs in its Linux guest, the same on every emulator: `io SECONDS PORT NAME...` with the port of
// the host's end (io.ts). Results are lines `io NAME VALUE`, timed by the guest's CLOCK_MONOTONIC.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISK "/dev/vda"
#define LARGEST (1 << 20)
#define CHUNK (64 << 10)

static double seconds;
static char *buffer;

static void die(const char *what) {
  printf("io failed %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int open_disk(off_t *size) {
  int fd = open(DISK, O_RDONLY | O_DIRECT);
  if (fd < 0) die("open");
  *size = lseek(fd, 0, SEEK_END);
  return fd;
}

// Reads the disk from its start to its end, again and again; MB/s.
static void sequential(const char *name, size_t size) {
  off_t end, at = 0, done = 0;
  int fd = open_disk(&end);
  double from = now(), to;
  do {
    if (pread(fd, buffer, size, at) != (ssize_t)size) die("read");
    done += size;
    at = (at + size) % end;
    to = now();
  } while (to - from < seconds);
  close(fd);
  printf("io %s %.2f\n", name, done / (to - from) / 1e6);
}

// Reads 4 KiB at random places from `workers` processes, one request each at a time; operations a second.
static void random_reads(const char *name, int workers) {
  off_t end;
  int fd = open_disk(&end);
  volatile uint64_t *counts =
      mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  double from = now();
  for (int n = 0; n < workers; n++) {
    counts[n] = 0;
    if (fork() != 0) continue;
    uint64_t state = 88172645463325252ull + n;
    uint64_t blocks = end / 4096;
    do {
      // 16 reads to a look at the clock.
      for (int i = 0; i < 16; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        if (pread(fd, buffer, 4096, state % blocks * 4096) != 4096) die("read");
      }
      counts[n] += 16;
    } while (now() - from < seconds);
    _exit(0);
  }
  while (wait(0) > 0) {
  }
  double took = now() - from;
  uint64_t sum = 0;
  for (int n = 0; n < workers; n++) sum += counts[n];
  close(fd);
  printf("io %s %.0f\n", name, sum / took);
}

static int connect_host(int port, char mode) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr("10.0.2.2")};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) die("connect");
  if (write(fd, &mode, 1) != 1) die("write");
  return fd;
}

// Streams to the host until the host has said that it has all of it; Mbit/s.
static void send_stream(const char *name, int port) {
  int fd = connect_host(port, 's');
  double from = now();
  uint64_t sent = 0;
  while (now() - from < seconds) {
    ssize_t n = write(fd, buffer, CHUNK);
    if (n < 0) die("write");
    sent += n;
  }
  shutdown(fd, SHUT_WR);
  char text[32] = "";
  size_t got = 0;
  for (ssize_t n; (n = read(fd, text + got, sizeof text - 1 - got)) > 0;) got += n;
  double took = now() - from;
  if (strtoull(text, 0, 10) != sent + 1) {
    printf("io failed: the host has %s of %llu bytes\n", text, (unsigned long long)sent + 1);
    exit(1);
  }
  close(fd);
  printf("io %s %.1f\n", name, sent * 8 / took / 1e6);
}

// Takes a stream of the host's; Mbit/s.
static void receive_stream(const char *name, int port) {
  int fd = connect_host(port, 'r');
  double from = now();
  uint64_t got = 0;
  while (now() - from < seconds) {
    ssize_t n = read(fd, buffer, LARGEST);
    if (n <= 0) die("read");
    got += n;
  }
  double took = now() - from;
  close(fd);
  printf("io %s %.1f\n", name, got * 8 / took / 1e6);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  seconds = atof(argv[1]);
  int port = atoi(argv[2]);
  setbuf(stdout, 0);
  buffer = mmap(0, LARGEST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(buffer, 0x5a, LARGEST);
  for (int n = 3; n < argc; n++) {
    const char *name = argv[n];
    if (!strcmp(name, "read-128k")) sequential(name, 128 << 10);
    else if (!strcmp(name, "read-1m")) sequential(name, 1 << 20);
    else if (!strcmp(name, "random-4k")) random_reads(name, 1);
    else if (!strcmp(name, "random-4k-by-4")) random_reads(name, 4);
    else if (!strcmp(name, "send")) send_stream(name, port);
    else if (!strcmp(name, "receive")) receive_stream(name, port);
    else die(name);
  }
  puts("io done");
  return 0;
}
