// One vCPU, run on JavaScript's thread: the cheapest exit there is, for no thread has to be woken. What KVM_RUN cannot do is
// look at the event loop and at the clock; a kicker thread does that beside it and brings the vCPU out in time.
//
// One atomic word says who may do what. JavaScript's thread sets kInside while it may be in KVM_RUN, kArmed when the kicker
// shall watch. The kicker clears kArmed when it has seen something, and in the same step, if the vCPU is inside, sets the
// reason for a kick; so run() never returns to a guest with a kick unseen, and arming again is needed only after a kick or
// after a time outside. A kick stays until a run() has returned for it.
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "vcpu.h"

namespace tsvisor {
namespace {

constexpr uint32_t kInside = 1;
constexpr uint32_t kArmed = 2;
/** The kicker is about to signal JavaScript's thread; and it has. */
constexpr uint32_t kSignalling = 4;
constexpr uint32_t kSignalled = 8;
/** Reasons for a kick: kick(), work for the event loop, a doorbell, the deadline. */
constexpr uint32_t kByCall = 16;
constexpr uint32_t kByLoop = 32;
constexpr uint32_t kByBell = 64;
constexpr uint32_t kByTime = 128;
constexpr uint32_t kKickMask = kByCall | kByLoop | kByBell | kByTime;
constexpr uint32_t kQuit = 256;

class InlineRunner final : public Runner {
 public:
  InlineRunner(uv_loop_t* loop, std::unique_ptr<Vcpu> vcpu)
      : Runner(loop), vcpu_(std::move(vcpu)), process_(::getpid()), thread_(static_cast<pid_t>(::syscall(SYS_gettid))) {
    // A process may be started with the signal blocked.
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, KickSignal());
    pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
    SignalsBlocked blocked;
    kicker_ = std::thread([this] { Kicker(); });
  }

  ~InlineRunner() override {
    if (kicker_.joinable()) Stop(0);
  }

  int Run(Ns now, Ns limit) override {
    if (exit_ != 0) {
      vcpu_->Add(kAnswerNs, static_cast<double>(now - exit_));
      exit_ = 0;
    }
    for (;; now = Now()) {
      Ns deadline = std::min(limit, timers_.Due(now));
      deadline_.store(deadline);
      // First clear, then look: a kicker that comes after the look sets both again, one that came before it is seen.
      vcpu_->ClearImmediateExit();
      uint32_t word = word_.fetch_or(kInside);
      if ((word & kKickMask) != 0) {
        Leave();
        if (int answer = AnswerOf(word, now >= deadline); answer != 0) return answer;
        continue;
      }
      if (failed_ || now >= deadline) {
        Leave();
        return kNothing;
      }
      if ((word & kArmed) == 0) {
        word_.fetch_or(kArmed);
        control_.Signal();
      } else if (deadline < watchedUntil_.load()) {
        control_.Signal();
      }
      stays_.fetch_add(1, std::memory_order_relaxed);
      vcpu_->Set(State::kRunning);
      int error = vcpu_->Run(now);
      Leave();
      vcpu_->Set(State::kParked);
      if (error == EINTR) continue;
      exit_ = now;
      if (error != 0) {
        failed_ = true;
        vcpu_->Set(kErrno, error);
        vcpu_->Set(State::kFailed);
      }
      vcpu_->Add(kExits, 1);
      return vcpu_->number;
    }
  }

  void Kick() override {
    // Only the kicker signals.
    if ((word_.fetch_or(kByCall) & kInside) != 0) control_.Signal();
  }

  bool Pause(Ns) override {
    failed_ = false;
    vcpu_->Set(State::kParked);
    return true;
  }

  int CompleteExit(size_t) override { return vcpu_->CompleteExit(); }

  bool Stop(Ns) override {
    word_.fetch_or(kQuit);
    control_.Signal();
    kicker_.join();
    return true;
  }

  const Vcpu& At(size_t) const override { return *vcpu_; }

 private:
  /** What run() returns for the kicks in `word`, and takes them back; 0: nothing, go on. */
  int AnswerOf(uint32_t word, bool late) {
    if ((word & kByBell) != 0) {
      word_.fetch_and(~kByBell);
      if (int tag = doorbells_.Take(); tag >= 0) {
        // There may be more; the other reasons wait too.
        word_.fetch_or(kByBell);
        return Rung(tag);
      }
    }
    word_.fetch_and(~(kByCall | kByLoop | kByTime));
    // The deadline that passed may be that of the run() before.
    return (word & (kByCall | kByLoop)) != 0 || late ? kNothing : 0;
  }

  /** JavaScript's thread is out of KVM_RUN. No signal reaches it afterwards: it could end a system call of others. */
  void Leave() {
    uint32_t word = word_.fetch_and(~kInside);
    if ((word & (kSignalling | kSignalled)) == 0) return;
    while ((word_.load() & kSignalling) != 0) ::sched_yield();
    word_.fetch_and(~kSignalled);
    // A signal that was sent is delivered at the latest when a system call returns.
    ::syscall(SYS_gettid);
  }

  void Kicker() {
    ::prctl(PR_SET_NAME, "vcpu kicker");
    struct pollfd fds[] = {
        {control_.get(), POLLIN, 0}, {::uv_backend_fd(loop_), POLLIN, 0}, {doorbells_.fd(), POLLIN, 0}};
    Ns kicked = 0;
    uint32_t stay = 0;
    bool told = false;
    for (;;) {
      uint32_t word = word_.load();
      if ((word & kQuit) != 0) return;
      if ((word & kInside) != 0 && (word & kKickMask) != 0) {
        Ns now = Now();
        if (uint32_t s = stays_.load(std::memory_order_relaxed); kicked == 0 || s != stay) {
          kicked = now;
          stay = s;
          told = false;
        }
        if (!told && now - kicked >= watchdogNs_.load()) {
          told = true;
          watchdog_.Signal();
        }
        SignalInside();
        Poll(fds, 1, now + kKickAgain);
        control_.Clear();
        continue;
      }
      kicked = 0;
      bool armed = (word & kArmed) != 0;
      Ns until = armed ? deadline_.load() : kNever;
      watchedUntil_.store(until);
      // Either run() sees what is watched for, or it is seen here that run() has moved the deadline.
      if (armed && deadline_.load() < until) continue;
      Poll(fds, armed ? 3 : 1, until);
      if (fds[0].revents != 0) {
        control_.Clear();
        continue;
      }
      if (!armed) continue;
      uint32_t reasons = (fds[1].revents != 0 ? kByLoop : 0) | (fds[2].revents != 0 ? kByBell : 0);
      if (Now() >= deadline_.load()) reasons |= kByTime;
      if (reasons != 0) Disarm(reasons);
    }
  }

  /**
   * Something was seen: a kick if the vCPU is inside. Outside, the event loop may turn before the next run(), which arms
   * again; only a doorbell waits for run() in any case. Either way the kicker is quiet now, though what it saw is still there.
   */
  void Disarm(uint32_t reasons) {
    uint32_t word = word_.load();
    uint32_t next = 0;
    do {
      next = (word & ~kArmed) | (reasons & ((word & kInside) != 0 ? kKickMask : kByBell));
    } while (!word_.compare_exchange_weak(word, next));
  }

  void SignalInside() {
    vcpu_->SetImmediateExit();
    uint32_t word = word_.load();
    do {
      if ((word & kInside) == 0) return;
    } while (!word_.compare_exchange_weak(word, word | kSignalling));
    ::syscall(SYS_tgkill, process_, thread_, KickSignal());
    word_.fetch_or(kSignalled);
    word_.fetch_and(~kSignalling);
    vcpu_->Add(kKicks, 1);
  }

  const std::unique_ptr<Vcpu> vcpu_;
  const pid_t process_;
  const pid_t thread_;
  /** Wakes the kicker. */
  Event control_;
  std::atomic<uint32_t> word_{0};
  std::atomic<Ns> deadline_{kNever};
  /** The deadline that the kicker waits for. */
  std::atomic<Ns> watchedUntil_{kNever};
  /** Counts entries, so that the watchdog does not take many short stays for a long one. */
  std::atomic<uint32_t> stays_{0};
  /** When the last exit came; 0: it is answered. */
  Ns exit_ = 0;
  bool failed_ = false;
  std::thread kicker_;
};

}  // namespace

std::unique_ptr<Runner> MakeInlineRunner(uv_loop_t* loop, std::unique_ptr<Vcpu> vcpu) {
  return std::make_unique<InlineRunner>(loop, std::move(vcpu));
}

}  // namespace tsvisor
