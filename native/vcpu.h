// What the two ways of running vCPUs share: one vCPU inline on JavaScript's thread (vcpu_inline.cc), or a thread for each
// (vcpu_threads.cc). vcpu.cc gives both to TypeScript.
#pragma once
#include <linux/kvm.h>
#include <napi.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tsvisor {

/** Nanoseconds of CLOCK_MONOTONIC, or a number of them. */
using Ns = int64_t;
constexpr Ns kNever = std::numeric_limits<Ns>::max();
constexpr Ns kMillisecond = 1'000'000;

inline Ns Now() {
  struct timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<Ns>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

/** What run() returns besides the number of a vCPU. */
constexpr int kNothing = -1;
constexpr int Stuck(int vcpu) { return -2 - vcpu; }
constexpr int Rung(int tag) { return -1000 - tag; }

/** A vCPU that one kick did not bring out is kicked again after this time. */
constexpr Ns kKickAgain = kMillisecond;

/**
 * A signal that neither Node, V8 nor the C library uses (those take the first real-time ones). Its handler does nothing: the
 * signal is there to end KVM_RUN with EINTR.
 */
int KickSignal();

/** Blocks every signal for the threads that are made while it lives, so that the process's are never handled there. */
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();

 private:
  sigset_t before_;
};

/** A file descriptor that is closed with its owner. */
class OwnedFd {
 public:
  /** @throws std::system_error of errno for a negative one. */
  OwnedFd(int fd, const char* call);
  ~OwnedFd();
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

/** Bytes of a file, shared, that are mapped as long as their owner lives. */
class Mapping {
 public:
  /** @throws std::system_error. @param size 0: nothing is mapped, and data is null. */
  Mapping(int fd, size_t size, off_t offset);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const size_t size;
  void* const data;
};

/** A non-blocking eventfd. */
class Event : public OwnedFd {
 public:
  Event();
  void Signal() const;
  void Clear() const;
};

/**
 * What one thread waits for and another opens, by a futex: one system call on each side, and none for a waiter that comes late.
 * The waiter looks at `turn()`, then at what it waits for, and waits only if that has not come. It does not spin before: on two
 * CPUs, with threads of others too, exits took twice as long with it.
 */
class Gate {
 public:
  uint32_t turn() const { return turns_.load(); }
  /** Returns when Open() was called since `turn`, at `deadline`, or for no reason. */
  void Wait(uint32_t turn, Ns deadline);
  void Open();

 private:
  std::atomic<uint32_t> turns_{0};
  std::atomic<uint32_t> asleep_{0};
};

/** Waits for POLLIN of descriptors until `deadline`; the caller looks at `revents`, all 0 after a signal. */
void Poll(struct pollfd* fds, unsigned count, Ns deadline);

/** Counters of a vCPU; the cells of a row of runnerCounters(). */
enum Cell { kRuns, kExits, kInsideNs, kAnswerNs, kKicks, kErrno, kState, kReserved, kCells };

/** Where a vCPU is: cell kState. */
enum class State { kParked, kRunning, kPending, kFailed };

/** A vCPU's descriptor (the caller's), its kvm_run, its dirty ring and its counters. */
class Vcpu {
 public:
  /** @throws std::system_error when kvm_run or the ring cannot be mapped. @param ringSize bytes; 0: there is no ring. */
  Vcpu(int number, int fd, size_t mapSize, size_t ringSize, std::shared_ptr<double[]> counters);
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  /**
   * KVM_RUN once. Returns 0 for an exit, EINTR when there is nothing to tell, or the errno of a failure. `now` is the time
   * before it and becomes that after it.
   */
  int Run(Ns& now);
  /** KVM_RUN with immediate_exit: the kernel takes the answer to the last exit in and runs no guest code. */
  int CompleteExit();

  // immediate_exit is shared by the kicking thread, this vCPU's and the kernel.
  void SetImmediateExit() { __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST); }
  void ClearImmediateExit() {
    if (__atomic_load_n(&run->immediate_exit, __ATOMIC_RELAXED) != 0) {
      __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    }
  }

  /** Each cell has one writer at a time; JavaScript reads them whenever it likes. */
  void Set(Cell cell, double value) const { __atomic_store(&row_[cell], &value, __ATOMIC_RELAXED); }
  void Add(Cell cell, double value) const { Set(cell, row_[cell] + value); }
  void Set(State state) const { Set(kState, static_cast<double>(state)); }

  const int number;
  const Mapping state;
  const Mapping ring;
  struct kvm_run* const run;

 private:
  const int fd_;
  const std::shared_ptr<double[]> counters_;
  double* const row_;
};

/** Eventfds of guests' doorbells, each with a number for TypeScript. Used by JavaScript's thread only, but for polling. */
class Doorbells {
 public:
  Doorbells();
  int fd() const { return epoll_.get(); }
  /** Both: @throws std::system_error. */
  void Watch(int fd, int tag);
  void Unwatch(int fd);
  /** Empties one that was rung and returns its tag, or -1. */
  int Take();

 private:
  OwnedFd epoll_;
};

/** When the timers of a loop are due. They are not in the loop's file descriptor. */
class Timers {
 public:
  explicit Timers(uv_loop_t* loop) : loop_(loop) {}
  /** When the next timer is due, or a time before; at or before `now`: one is due. */
  Ns Due(Ns now) {
    // Every start of a timer counts here; a timer that was stopped only makes us look again. uv.h has the field among those
    // that are not for its users, but in a structure whose layout is the same in all of libuv 1. Without it all timers had to
    // be walked through for each exit, or run() had to be interrupted from time to time.
    if (loop_->timer_counter != started_ || now >= due_) {
      started_ = loop_->timer_counter;
      due_ = Next();
    }
    return due_;
  }

 private:
  Ns Next() const;

  uv_loop_t* const loop_;
  uint64_t started_ = 0;
  Ns due_ = 0;
};

/** The vCPUs of a VM and the loop that runs them. All methods are for JavaScript's thread. */
class Runner {
 public:
  explicit Runner(uv_loop_t* loop) : loop_(loop), timers_(loop) {}
  virtual ~Runner() = default;

  /** See runnerCreate() in src/engines/host/addon.ts for these. */
  virtual int Run(Ns now, Ns limit) = 0;
  virtual void Kick() = 0;
  virtual bool Pause(Ns limit) = 0;
  virtual int CompleteExit(size_t vcpu) = 0;
  /** Kicks and joins. false: a thread is stuck; it keeps what it needs. Nothing may be called afterwards. */
  virtual bool Stop(Ns limit) = 0;
  virtual const Vcpu& At(size_t vcpu) const = 0;

  Doorbells& doorbells() { return doorbells_; }
  const Event& watchdog() const { return watchdog_; }
  void SetWatchdog(Ns ns) { watchdogNs_ = ns; }

 protected:
  uv_loop_t* const loop_;
  Timers timers_;
  Doorbells doorbells_;
  /** Readable when an inline vCPU is stuck. */
  Event watchdog_;
  std::atomic<Ns> watchdogNs_{5000 * kMillisecond};
};

/** Both: @throws std::system_error when the host refuses a thread or a descriptor. */
std::unique_ptr<Runner> MakeInlineRunner(uv_loop_t* loop, std::unique_ptr<Vcpu> vcpu);
std::unique_ptr<Runner> MakeThreadRunner(uv_loop_t* loop, std::vector<std::unique_ptr<Vcpu>> vcpus);

/** Adds the functions that run vCPUs to the addon's exports. */
void ExportVcpu(Napi::Env env, Napi::Object exports);

}  // namespace tsvisor
