// throw-signals PID: sends the signal that ends KVM_RUN (native/vcpu.cc) to threads of a process at random, until that ends
// or it is ended itself. Prints the number of signals.
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static void end(int signal) {
  (void)signal;
  ended = 1;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  int pid = atoi(argv[1]);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  signal(SIGTERM, end);
  srand((unsigned)pid);
  long sent = 0;
  while (!ended) {
    DIR* tasks = opendir(path);
    if (tasks == NULL) break;
    for (struct dirent* e; !ended && (e = readdir(tasks)) != NULL;) {
      int thread = atoi(e->d_name);
      if (thread == 0 || rand() % 2 != 0) continue;
      if (syscall(SYS_tgkill, pid, thread, SIGRTMIN + 4) == 0) sent++;
      if (rand() % 2 != 0) usleep((unsigned)(rand() % 300));
    }
    closedir(tasks);
  }
  printf("%ld\n", sent);
  return 0;
}
