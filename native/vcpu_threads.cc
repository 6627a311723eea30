// A thread for each vCPU. An exit stops its vCPU only: the thread puts its number into the mailbox, wakes JavaScript's
// thread if that waits in run(), and sleeps until the next run() says that the answer is in kvm_run.
//
// What a thread may do is under the mutex of its seat, which is never held during KVM_RUN. Going in clears immediate_exit
// under it and kicking sets it under it, so that no kick gets lost in between.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "vcpu.h"

namespace tsvisor {
namespace {

/** While exits wait, run() looks at the event loop this often. */
constexpr Ns kLook = kMillisecond;
/** How long completeExit() waits for a KVM_RUN that runs no guest code. */
constexpr auto kCompletion = std::chrono::seconds(1);

/** Exits for TypeScript, in the order in which they came. */
struct Mailbox {
  std::mutex mutex;
  std::deque<int> exits;
  /** run() waits in poll(). */
  bool waiting = false;
  Event event;

  void Put(int vcpu) {
    std::lock_guard<std::mutex> lock(mutex);
    exits.push_back(vcpu);
    if (!waiting) return;
    waiting = false;
    event.Signal();
  }

  /** The next exit, or -1; says that run() is going to wait if so. */
  int Take() {
    std::lock_guard<std::mutex> lock(mutex);
    waiting = exits.empty();
    if (waiting) return -1;
    int vcpu = exits.front();
    exits.pop_front();
    return vcpu;
  }

  void Remove(int vcpu) {
    std::lock_guard<std::mutex> lock(mutex);
    exits.erase(std::remove(exits.begin(), exits.end(), vcpu), exits.end());
  }
};

enum class Stage {
  kParked,   // goes into KVM_RUN when it may
  kRunning,  // may be in KVM_RUN
  kPending,  // an exit is in the mailbox
  kHanded,   // run() has returned it; the next run() resumes
  kFailed,   // run() has returned the failure, or will
};

/** A vCPU with its thread. Both sides hold it, so that a thread that is stuck can be left behind. */
struct Seat {
  Seat(std::unique_ptr<Vcpu> v, std::shared_ptr<Mailbox> m) : vcpu(std::move(v)), mailbox(std::move(m)) {}

  const std::unique_ptr<Vcpu> vcpu;
  const std::shared_ptr<Mailbox> mailbox;
  std::mutex mutex;
  std::condition_variable changed;
  // All below is under the mutex.
  Stage stage = Stage::kParked;
  bool may = false;
  bool quit = false;
  bool ended = false;
  bool complete = false;
  int completed = 0;
  pid_t thread = 0;
  /** Since when a kick is not obeyed, 0: none. */
  Ns kicked = 0;
  bool told = false;

  void Enter(Stage next) {
    stage = next;
    vcpu->Set(next == Stage::kRunning   ? State::kRunning
              : next == Stage::kPending ? State::kPending
              : next == Stage::kFailed  ? State::kFailed
                                        : State::kParked);
  }

  /** Brings the vCPU out of KVM_RUN if it is there; to be repeated until it is out. */
  void Kick(Ns now) {
    if (stage != Stage::kRunning) return;
    if (kicked == 0) {
      kicked = now;
      told = false;
    }
    vcpu->SetImmediateExit();
    ::syscall(SYS_tgkill, ::getpid(), thread, KickSignal());
    vcpu->Add(kKicks, 1);
  }

  void Thread();
};

void Seat::Thread() {
  ::prctl(PR_SET_NAME, ("vcpu " + std::to_string(vcpu->number)).c_str());
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, KickSignal());
  pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
  Ns exit = 0;
  std::unique_lock<std::mutex> lock(mutex);
  thread = static_cast<pid_t>(::syscall(SYS_gettid));
  while (!quit) {
    bool completing = complete;
    if (!completing && !(may && stage == Stage::kParked)) {
      changed.wait(lock);
      continue;
    }
    vcpu->ClearImmediateExit();
    Enter(Stage::kRunning);
    lock.unlock();
    Ns now = Now();
    if (exit != 0) vcpu->Add(kAnswerNs, static_cast<double>(now - exit));
    int error = completing ? vcpu->CompleteExit() : vcpu->Run(now);
    exit = error == 0 ? now : 0;
    lock.lock();
    kicked = 0;
    if (completing) {
      complete = false;
      completed = error;
      Enter(error == 0 ? Stage::kHanded : Stage::kParked);
    } else if (error == EINTR) {
      Enter(Stage::kParked);
    } else {
      if (error != 0) vcpu->Set(kErrno, error);
      Enter(error == 0 ? Stage::kPending : Stage::kFailed);
      if (!quit) mailbox->Put(vcpu->number);
    }
    changed.notify_all();
  }
  ended = true;
  changed.notify_all();
}

class ThreadRunner final : public Runner {
 public:
  ThreadRunner(uv_loop_t* loop, std::vector<std::unique_ptr<Vcpu>> vcpus) : Runner(loop) {
    KickSignal();
    for (auto& v : vcpus) seats_.push_back(std::make_shared<Seat>(std::move(v), mailbox_));
    SignalsBlocked blocked;
    try {
      for (auto& s : seats_) threads_.emplace_back([s] { s->Thread(); });
    } catch (...) {
      Stop(kNever);
      throw;
    }
  }

  ~ThreadRunner() override {
    if (!threads_.empty()) Stop(kKickAgain);
  }

  int Run(Ns now, Ns limit) override {
    Resume();
    struct pollfd fds[] = {{mailbox_->event.get(), POLLIN, 0},
                           {::uv_backend_fd(loop_), POLLIN, 0},
                           {doorbells_.fd(), POLLIN, 0}};
    for (;; now = Now()) {
      Ns deadline = std::min(limit, timers_.Due(now));
      if (std::exchange(byCall_, false)) return kNothing;
      // Exits that wait cost no system call; but they must not keep the event loop waiting for ever.
      bool look = now - looked_ >= kLook;
      if (!look) {
        if (int n = mailbox_->Take(); n >= 0) return HandOut(n);
        if (now >= deadline) return kNothing;
        if (int n = Late(now); n >= 0) return Stuck(n);
      }
      Poll(fds, 3, look ? now : std::min(deadline, kicks_ ? now + kKickAgain : kNever));
      looked_ = Now();
      if (fds[0].revents != 0) mailbox_->event.Clear();
      if (fds[1].revents != 0) return kNothing;
      if (fds[2].revents != 0) {
        if (int tag = doorbells_.Take(); tag >= 0) return Rung(tag);
      }
    }
  }

  void Kick() override {
    byCall_ = true;
    kicks_ = true;
    Ns now = Now();
    for (auto& s : seats_) {
      std::lock_guard<std::mutex> lock(s->mutex);
      s->Kick(now);
    }
  }

  bool Pause(Ns limit) override {
    running_ = false;
    for (auto& s : seats_) {
      std::lock_guard<std::mutex> lock(s->mutex);
      s->may = false;
      s->Kick(Now());
    }
    bool all = true;
    Ns until = Until(limit);
    for (auto& s : seats_) {
      std::unique_lock<std::mutex> lock(s->mutex);
      if (!Await(lock, *s, until, [&s] { return s->stage != Stage::kRunning; })) all = false;
      if (s->stage == Stage::kFailed) {
        mailbox_->Remove(s->vcpu->number);
        s->Enter(Stage::kParked);
      }
    }
    kicks_ = !all;
    return all;
  }

  int CompleteExit(size_t vcpu) override {
    Seat& s = *seats_[vcpu];
    std::unique_lock<std::mutex> lock(s.mutex);
    if (s.may || s.stage == Stage::kRunning) return EBUSY;
    // An exit that run() has not returned: who completes it has found and answered it.
    if (s.stage == Stage::kPending) mailbox_->Remove(s.vcpu->number);
    s.complete = true;
    s.changed.notify_all();
    return s.changed.wait_for(lock, kCompletion, [&s] { return !s.complete; }) ? s.completed : ETIMEDOUT;
  }

  bool Stop(Ns limit) override {
    for (auto& s : seats_) {
      std::lock_guard<std::mutex> lock(s->mutex);
      s->quit = true;
      s->Kick(Now());
      s->changed.notify_all();
    }
    bool all = true;
    Ns until = Until(limit);
    for (size_t n = 0; n < threads_.size(); n++) {
      bool ended = false;
      {
        std::unique_lock<std::mutex> lock(seats_[n]->mutex);
        ended = Await(lock, *seats_[n], until, [&s = seats_[n]] { return s->ended; });
      }
      if (ended) {
        threads_[n].join();
      } else {
        // It holds its seat, and with it the mapping that the kernel is using.
        threads_[n].detach();
        all = false;
      }
    }
    threads_.clear();
    return all;
  }

  const Vcpu& At(size_t vcpu) const override { return *seats_[vcpu]->vcpu; }

 private:
  static Ns Until(Ns limit) {
    Ns now = Now();
    return limit >= kNever - now ? kNever : now + limit;
  }

  /** Kicks until `done()`; false when that was not before `until`. */
  template <typename Done>
  static bool Await(std::unique_lock<std::mutex>& lock, Seat& s, Ns until, Done done) {
    while (!done()) {
      Ns now = Now();
      if (now >= until) return false;
      s.changed.wait_for(lock, std::chrono::nanoseconds(std::min(kKickAgain, until - now)));
      if (!done()) s.Kick(Now());
    }
    return true;
  }

  /** Resumes the vCPU whose exit was handed out, and after a pause all others. */
  void Resume() {
    if (handed_ >= 0) {
      Seat& s = *seats_[static_cast<size_t>(std::exchange(handed_, -1))];
      std::lock_guard<std::mutex> lock(s.mutex);
      if (s.stage == Stage::kHanded) {
        s.Enter(Stage::kParked);
        s.changed.notify_all();
      }
    }
    if (std::exchange(running_, true)) return;
    for (auto& s : seats_) {
      std::lock_guard<std::mutex> lock(s->mutex);
      s->may = true;
      // completeExit() may have left one with a further exit, which was answered too.
      if (s->stage == Stage::kHanded) s->Enter(Stage::kParked);
      s->changed.notify_all();
    }
  }

  int HandOut(int vcpu) {
    Seat& s = *seats_[static_cast<size_t>(vcpu)];
    std::lock_guard<std::mutex> lock(s.mutex);
    if (s.stage == Stage::kPending) s.Enter(Stage::kHanded);
    s.vcpu->Add(kExits, 1);
    return handed_ = vcpu;
  }

  /** Repeats kicks that are not obeyed; the number of a vCPU that has been deaf for too long and was not told of, or -1. */
  int Late(Ns now) {
    if (!kicks_) return -1;
    kicks_ = false;
    for (auto& s : seats_) {
      std::lock_guard<std::mutex> lock(s->mutex);
      if (s->kicked == 0) continue;
      kicks_ = true;
      if (now - s->kicked < watchdogNs_.load()) {
        s->Kick(now);
      } else if (!s->told) {
        s->told = true;
        return s->vcpu->number;
      }
    }
    return -1;
  }

  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::vector<std::shared_ptr<Seat>> seats_;
  std::vector<std::thread> threads_;
  /** The vCPU whose exit run() returned last. */
  int handed_ = -1;
  bool running_ = false;
  bool byCall_ = false;
  /** Some vCPU may not have obeyed a kick yet. */
  bool kicks_ = false;
  /** When run() last looked at the event loop. */
  Ns looked_ = 0;
};

}  // namespace

std::unique_ptr<Runner> MakeThreadRunner(uv_loop_t* loop, std::vector<std::unique_ptr<Vcpu>> vcpus) {
  return std::make_unique<ThreadRunner>(loop, std::move(vcpus));
}

}  // namespace tsvisor
