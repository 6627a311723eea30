// A thread for each vCPU. An exit stops its vCPU only: the thread puts its number into the mailbox, wakes JavaScript's
// thread if that waits in run(), and sleeps until the next run() says that the answer is in kvm_run. Both wait at a gate: an
// exit costs two wake-ups and two changes of threads, which is all that two threads can do about it.
//
// What a thread may do is under the mutex of its seat, which is never held during KVM_RUN. Going in clears immediate_exit
// under it and kicking sets it under it, so that no kick gets lost in between. Gates are opened when no mutex is held, or who
// wakes would have to wait again.
//
// A gate does not see the event loop and the doorbells. A lookout thread does that: run() arms it once, and it is quiet from
// when it has seen something until it is armed again.
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

/** How long completeExit() waits for a KVM_RUN that runs no guest code. */
constexpr auto kCompletion = std::chrono::seconds(1);

/** What the lookout and run() tell each other: run() waits, the lookout shall look, it has seen something, it shall end. */
constexpr uint32_t kInside = 1;
constexpr uint32_t kArmed = 2;
constexpr uint32_t kByLoop = 4;
constexpr uint32_t kByBell = 8;
constexpr uint32_t kQuit = 16;

/** Exits for TypeScript, in the order in which they came. */
struct Mailbox {
  std::mutex mutex;
  std::deque<int> exits;
  /** run() waits here. */
  Gate gate;

  /** The gate is to be opened after it. */
  void Put(int vcpu) {
    std::lock_guard<std::mutex> lock(mutex);
    exits.push_back(vcpu);
  }

  /** The next exit, or -1. */
  int Take() {
    std::lock_guard<std::mutex> lock(mutex);
    if (exits.empty()) return -1;
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
  /** The thread waits here for leave to go on. */
  Gate gate;
  std::mutex mutex;
  /** JavaScript's thread waits here, for a pause and the like. */
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
  bool tell = false;
  std::unique_lock<std::mutex> lock(mutex);
  thread = static_cast<pid_t>(::syscall(SYS_gettid));
  while (!quit) {
    bool completing = complete;
    if (!completing && !(may && stage == Stage::kParked)) {
      uint32_t turn = gate.turn();
      lock.unlock();
      if (std::exchange(tell, false)) mailbox->gate.Open();
      gate.Wait(turn, kNever);
      lock.lock();
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
      // Who sees the new stage finds it in the mailbox.
      mailbox->Put(vcpu->number);
      tell = true;
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
      lookout_ = std::thread([this] { Lookout(); });
    } catch (...) {
      Stop(kNever);
      throw;
    }
  }

  ~ThreadRunner() override {
    if (lookout_.joinable()) Stop(kKickAgain);
  }

  int Run(Ns now, Ns limit) override {
    Resume();
    word_.fetch_or(kInside);
    int answer = Wait(now, limit);
    word_.fetch_and(~kInside);
    return answer;
  }

  void Kick() override {
    byCall_ = true;
    kicks_ = true;
    Ns now = Now();
    kickAgain_ = now + kKickAgain;
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
    s.gate.Open();
    return s.changed.wait_for(lock, kCompletion, [&s] { return !s.complete; }) ? s.completed : ETIMEDOUT;
  }

  bool Stop(Ns limit) override {
    for (auto& s : seats_) {
      std::lock_guard<std::mutex> lock(s->mutex);
      s->quit = true;
      s->Kick(Now());
      s->gate.Open();
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
    if (lookout_.joinable()) {
      word_.fetch_or(kQuit);
      control_.Signal();
      lookout_.join();
    }
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
    if (handed_ >= 0) Park(*seats_[static_cast<size_t>(std::exchange(handed_, -1))]);
    if (std::exchange(running_, true)) return;
    for (auto& s : seats_) {
      {
        std::lock_guard<std::mutex> lock(s->mutex);
        s->may = true;
      }
      // completeExit() may have left one with a further exit, which was answered too.
      Park(*s);
    }
  }

  /** An exit that was handed out is answered. */
  static void Park(Seat& s) {
    {
      std::lock_guard<std::mutex> lock(s.mutex);
      if (s.stage == Stage::kHanded) s.Enter(Stage::kParked);
    }
    s.gate.Open();
  }

  /** Waits for what run() is to return. */
  int Wait(Ns now, Ns limit) {
    for (;; now = Now()) {
      uint32_t turn = mailbox_->gate.turn();
      if (std::exchange(byCall_, false)) return kNothing;
      uint32_t word = word_.load();
      if ((word & kByLoop) != 0) {
        word_.fetch_and(~kByLoop);
        return kNothing;
      }
      if ((word & kByBell) != 0) {
        // The bit stays while more of them ring.
        if (int tag = doorbells_.Take(); tag >= 0) return Rung(tag);
        word_.fetch_and(~kByBell);
      }
      if ((word & kArmed) == 0) {
        word_.fetch_or(kArmed);
        control_.Signal();
      }
      Ns deadline = std::min(limit, timers_.Due(now));
      if (now >= deadline) return kNothing;
      if (int n = Late(now); n >= 0) return Stuck(n);
      if (int n = mailbox_->Take(); n >= 0) return HandOut(n);
      mailbox_->gate.Wait(turn, kicks_ ? std::min(deadline, kickAgain_) : deadline);
    }
  }

  /** Waits for the event loop's descriptors and the doorbells when run() has armed it. */
  void Lookout() {
    ::prctl(PR_SET_NAME, "vcpu lookout");
    struct pollfd fds[] = {
        {control_.get(), POLLIN, 0}, {::uv_backend_fd(loop_), POLLIN, 0}, {doorbells_.fd(), POLLIN, 0}};
    for (;;) {
      uint32_t word = word_.load();
      if ((word & kQuit) != 0) return;
      Poll(fds, (word & kArmed) != 0 ? 3 : 1, kNever);
      if (fds[0].revents != 0) {
        control_.Clear();
        continue;
      }
      uint32_t reasons = (fds[1].revents != 0 ? kByLoop : 0) | (fds[2].revents != 0 ? kByBell : 0);
      if (reasons == 0) continue;
      word = word_.load();
      uint32_t next = 0;
      do {
        // Outside of run() the event loop may turn before the next one, which arms again.
        next = (word & ~kArmed) | ((word & kInside) != 0 ? reasons : reasons & kByBell);
      } while (!word_.compare_exchange_weak(word, next));
      mailbox_->gate.Open();
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
    if (!kicks_ || now < kickAgain_) return -1;
    kicks_ = false;
    kickAgain_ = now + kKickAgain;
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
  /** When those get the next one. */
  Ns kickAgain_ = 0;
  std::atomic<uint32_t> word_{0};
  /** Wakes the lookout. */
  Event control_;
  std::thread lookout_;
};

}  // namespace

std::unique_ptr<Runner> MakeThreadRunner(uv_loop_t* loop, std::vector<std::unique_ptr<Vcpu>> vcpus) {
  return std::make_unique<ThreadRunner>(loop, std::move(vcpus));
}

}  // namespace tsvisor
