// For prebuilds (-include, see CMakeLists.txt): asks for the first version of functions that got a second one when glibc
// 2.32 and 2.34 moved them from libpthread into libc, or when libstdc++ 12 made condition_variable::wait() noexcept. They
// are the same functions, but the new version's name would keep the addon from loading on older distributions that Node
// itself runs on. What is not used leaves nothing behind. scripts/prebuild.mjs checks the result.
#pragma once
#include <features.h>

#ifdef __GLIBC__
#if defined(__x86_64__)
#define TSVISOR_FIRST_GLIBC(f) __asm__(".symver " #f "," #f "@GLIBC_2.2.5")
#define TSVISOR_GLIBC_2_12 "2.12"
#elif defined(__aarch64__)
#define TSVISOR_FIRST_GLIBC(f) __asm__(".symver " #f "," #f "@GLIBC_2.17")
#define TSVISOR_GLIBC_2_12 "2.17"
#endif
#endif

#ifdef TSVISOR_FIRST_GLIBC
TSVISOR_FIRST_GLIBC(pthread_create);
TSVISOR_FIRST_GLIBC(pthread_detach);
TSVISOR_FIRST_GLIBC(pthread_join);
TSVISOR_FIRST_GLIBC(pthread_kill);
TSVISOR_FIRST_GLIBC(pthread_once);
TSVISOR_FIRST_GLIBC(pthread_sigmask);
TSVISOR_FIRST_GLIBC(pthread_key_create);
TSVISOR_FIRST_GLIBC(pthread_key_delete);
TSVISOR_FIRST_GLIBC(pthread_getspecific);
TSVISOR_FIRST_GLIBC(pthread_setspecific);
TSVISOR_FIRST_GLIBC(pthread_mutex_trylock);
TSVISOR_FIRST_GLIBC(pthread_attr_setstacksize);
TSVISOR_FIRST_GLIBC(sem_init);
TSVISOR_FIRST_GLIBC(sem_destroy);
TSVISOR_FIRST_GLIBC(sem_post);
TSVISOR_FIRST_GLIBC(sem_wait);
__asm__(".symver pthread_setname_np,pthread_setname_np@GLIBC_" TSVISOR_GLIBC_2_12);
// std::condition_variable::wait(std::unique_lock<std::mutex>&)
__asm__(".symver _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE,"
        "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE@GLIBCXX_3.4.11");
TSVISOR_FIRST_GLIBC(dlsym);

#include <dlfcn.h>
#include <pthread.h>
#include <time.h>

#include <new>

// New in glibc 2.32: false, and reference counts are always atomic. It is so in a process of threads anyhow.
extern "C" __attribute__((weak, visibility("hidden"))) char __libc_single_threaded = 0;

// New in libstdc++ 11; std::allocator calls it for a size that is absurd.
namespace std {
__attribute__((weak, noreturn, visibility("hidden"))) void __throw_bad_array_new_length() {
  throw bad_array_new_length();
}
}  // namespace std

/// pthread_cond_clockwait(), new in glibc 2.30, which std::condition_variable::wait_for() is made of. Before 2.30 it is the
/// wait by the wall clock that libstdc++ made then: a step of that clock makes it shorter or longer.
inline int TsvisorCondClockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                                const timespec* until) {
  using Clockwait = int (*)(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*);
  static const auto clockwait = reinterpret_cast<Clockwait>(dlsym(RTLD_DEFAULT, "pthread_cond_clockwait"));
  if (clockwait != nullptr) return clockwait(condition, mutex, clock, until);
  timespec now, wall;
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &wall);
  wall.tv_sec += until->tv_sec - now.tv_sec;
  wall.tv_nsec += until->tv_nsec - now.tv_nsec;
  if (wall.tv_nsec < 0) wall.tv_nsec += 1'000'000'000, wall.tv_sec -= 1;
  if (wall.tv_nsec >= 1'000'000'000) wall.tv_nsec -= 1'000'000'000, wall.tv_sec += 1;
  return pthread_cond_timedwait(condition, mutex, &wall);
}
#define pthread_cond_clockwait TsvisorCondClockwait
#endif
