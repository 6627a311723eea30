// Running vCPUs, for TypeScript: what src/engines/host/addon.ts says of runnerCreate() and the functions after it.
#include "vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <system_error>

#include "fd.h"

namespace tsvisor {
namespace {

/** KVM_DIRTY_LOG_PAGE_OFFSET of both architectures; headers before Linux 6.2 say 0 on arm64. */
constexpr off_t kRingPage = 64;

[[noreturn]] void Throw(const char* call) { throw std::system_error(errno, std::generic_category(), call); }

}  // namespace

int KickSignal() {
  // The one thing here that belongs to the process. The addon is linked so that it is never unloaded: the handler stays.
  static const int signal = [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    // Without SA_RESTART: nothing of the kernel may go on by itself.
    ::sigaction(SIGRTMIN + 4, &action, nullptr);
    return SIGRTMIN + 4;
  }();
  return signal;
}

SignalsBlocked::SignalsBlocked() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before_);
}

SignalsBlocked::~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

OwnedFd::OwnedFd(int fd, const char* call) : fd_(fd) {
  if (fd < 0) Throw(call);
}

OwnedFd::~OwnedFd() { ::close(fd_); }

Mapping::Mapping(int fd, size_t size, off_t offset)
    : size(size),
      data(size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset)) {
  if (data == MAP_FAILED) Throw("mmap");
}

Mapping::~Mapping() {
  if (data != nullptr) ::munmap(data, size);
}

Event::Event() : OwnedFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd") {}

// The counter of an eventfd neither overflows here nor does it matter what is in it.
void Event::Signal() const {
  uint64_t one = 1;
  while (::write(get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void Event::Clear() const {
  uint64_t value = 0;
  while (::read(get(), &value, sizeof value) < 0 && errno == EINTR) {
  }
}

void Gate::Wait(uint32_t turn, Ns deadline) {
  struct timespec until {};
  if (deadline != kNever) {
    until = {static_cast<time_t>(deadline / 1'000'000'000), static_cast<long>(deadline % 1'000'000'000)};
  }
  asleep_.fetch_add(1);
  // With the bitset the time is absolute, of CLOCK_MONOTONIC.
  ::syscall(SYS_futex, &turns_, FUTEX_WAIT_BITSET_PRIVATE, turn, deadline == kNever ? nullptr : &until, nullptr,
            FUTEX_BITSET_MATCH_ANY);
  asleep_.fetch_sub(1);
}

void Gate::Open() {
  turns_.fetch_add(1);
  // Who is going to sleep has counted itself first, and sees the new turn in the kernel.
  if (asleep_.load() != 0) {
    ::syscall(SYS_futex, &turns_, FUTEX_WAKE_PRIVATE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
  }
}

void Poll(struct pollfd* fds, unsigned count, Ns deadline) {
  for (unsigned n = 0; n < count; n++) fds[n].revents = 0;
  struct timespec timeout {};
  if (deadline != kNever) {
    Ns left = std::max<Ns>(deadline - Now(), 0);
    timeout = {static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
  }
  if (::ppoll(fds, count, deadline == kNever ? nullptr : &timeout, nullptr) < 0) {
    for (unsigned n = 0; n < count; n++) fds[n].revents = 0;
  }
}

Vcpu::Vcpu(int number, int fd, size_t mapSize, size_t ringSize, std::shared_ptr<double[]> counters)
    : number(number),
      state(fd, mapSize, 0),
      ring(fd, ringSize, kRingPage * ::sysconf(_SC_PAGESIZE)),
      run(static_cast<struct kvm_run*>(state.data)),
      fd_(fd),
      counters_(std::move(counters)),
      row_(&counters_[static_cast<size_t>(number) * kCells]) {}

int Vcpu::Run(Ns& now) {
  Ns before = now;
  int error = ::ioctl(fd_, KVM_RUN, 0) < 0 ? errno : 0;
  now = Now();
  Add(kInsideNs, static_cast<double>(now - before));
  Add(kRuns, 1);
  // EAGAIN: a vCPU that waits to be started by another was woken (api.rst 4.10).
  if (error == EAGAIN || (error == 0 && run->exit_reason == KVM_EXIT_INTR)) return EINTR;
  return error;
}

int Vcpu::CompleteExit() {
  SetImmediateExit();
  Ns now = Now();
  int error = Run(now);
  ClearImmediateExit();
  return error;
}

// uv_backend_timeout() would say 0 inside of an immediate's callback, which is where run() is called from.
Ns Timers::Next() const {
  uint64_t left = UINT64_MAX;
  uv_walk(
      loop_,
      [](uv_handle_t* handle, void* data) {
        if (handle->type != UV_TIMER || !uv_is_active(handle)) return;
        auto& left = *static_cast<uint64_t*>(data);
        left = std::min(left, uv_timer_get_due_in(reinterpret_cast<uv_timer_t*>(handle)));
      },
      &left);
  // The loop counts whole milliseconds of the same clock, from when it last looked at it.
  constexpr uint64_t kTooFar = kNever / kMillisecond / 2;
  return left > kTooFar ? kNever : static_cast<Ns>(uv_now(loop_) + left) * kMillisecond;
}

Doorbells::Doorbells() : epoll_(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1") {}

void Doorbells::Watch(int fd, int tag) {
  struct epoll_event e {};
  e.events = EPOLLIN;
  e.data.u64 = static_cast<uint64_t>(tag) << 32 | static_cast<uint32_t>(fd);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e) < 0) Throw("epoll_ctl");
}

void Doorbells::Unwatch(int fd) {
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) < 0) Throw("epoll_ctl");
}

int Doorbells::Take() {
  struct epoll_event e {};
  // One at a time: the kernel puts it behind the others that are ready.
  if (::epoll_wait(epoll_.get(), &e, 1, 0) != 1) return -1;
  auto fd = static_cast<int>(e.data.u64 & UINT32_MAX);
  uint64_t value = 0;
  // What cannot be emptied would ring for ever.
  if (::read(fd, &value, sizeof value) <= 0 && errno != EAGAIN && errno != EINTR) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }
  return static_cast<int>(e.data.u64 >> 32);
}

namespace {

struct Holder;
/** The runners of a thread. A type tag would say as well which external is one, but run() has no time to ask for it. */
using Holders = std::vector<Holder*>;

/** What JavaScript holds: without a runner once that has been destroyed. */
struct Holder {
  napi_env env;
  std::unique_ptr<Runner> runner;
  std::shared_ptr<Holders> known;
  size_t count;
  /** The end of the last run(). */
  Ns deadline = kNever;
  std::shared_ptr<double[]> counters;
  /** Of each vCPU, what JavaScript sees of its mappings. */
  std::vector<Napi::Reference<Napi::ArrayBuffer>> states;
  std::vector<Napi::Reference<Napi::ArrayBuffer>> rings;
  Napi::Reference<Napi::Value> rows;
};

/** How long a thread may take that JavaScript does not wait for. */
constexpr Ns kLeaveWithin = 1000 * kMillisecond;

/** The thread ends, and JavaScript has not destroyed its runner. */
void OnThreadEnd(void* data) {
  auto* h = static_cast<Holder*>(data);
  h->runner->Stop(kLeaveWithin);
  h->runner.reset();
}

/** What JavaScript gave as a runner, or nothing and what is wrong with it. */
Holder* FindHolder(napi_env env, napi_value value, const Holders& known, const char** wrong) {
  void* data = nullptr;
  if (napi_get_value_external(env, value, &data) != napi_ok ||
      std::find(known.begin(), known.end(), data) == known.end()) {
    *wrong = "runner must come from runnerCreate()";
    return nullptr;
  }
  auto* h = static_cast<Holder*>(data);
  if (h->runner != nullptr) return h;
  *wrong = "the runner has been destroyed";
  return nullptr;
}

Holder& HolderOfArgument(Info info) {
  const char* wrong = nullptr;
  Holder* h = FindHolder(info.Env(), info[0], **static_cast<std::shared_ptr<Holders>*>(info.Data()), &wrong);
  if (h == nullptr) throw Napi::TypeError::New(info.Env(), wrong);
  return *h;
}

double NumberOfArgument(Info info, size_t index, const char* name, double low, double high) {
  if (!info[index].IsNumber()) throw Napi::TypeError::New(info.Env(), std::string(name) + " must be a number");
  double v = info[index].As<Napi::Number>().DoubleValue();
  if (!(v >= low && v <= high)) throw Napi::RangeError::New(info.Env(), std::string(name) + " is out of range");
  return v;
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/** A number of ns from now, as a deadline. */
Ns Deadline(Ns now, double ns) {
  return ns >= static_cast<double>(kNever - now) ? kNever : now + static_cast<Ns>(ns);
}

Ns Milliseconds(Info info, size_t index, const char* name) {
  double ns = NumberOfArgument(info, index, name, 0, kInfinity) * kMillisecond;
  return ns >= static_cast<double>(kNever) ? kNever : static_cast<Ns>(ns);
}

size_t VcpuOfArgument(Info info, const Holder& h) {
  return static_cast<size_t>(NumberOfArgument(info, 1, "vcpu", 0, static_cast<double>(h.count - 1)));
}

/** runnerCreate(fds, mapSize, threads, ringSize?) => runner */
Napi::Value RunnerCreate(Info info) {
  Napi::Env env = info.Env();
  if (!info[0].IsArray()) throw Napi::TypeError::New(env, "fds must be an array");
  auto array = info[0].As<Napi::Array>();
  auto mapSize =
      static_cast<size_t>(NumberOfArgument(info, 1, "mapSize", sizeof(struct kvm_run), static_cast<double>(1 << 24)));
  bool threads = info[2].ToBoolean();
  size_t ringSize = 0;
  if (!info[3].IsUndefined()) {
    ringSize = static_cast<size_t>(NumberOfArgument(info, 3, "ringSize", 0, static_cast<double>(1 << 24)));
  }
  uint32_t count = array.Length();
  if (count < 1 || count > 4096 || (!threads && count != 1)) {
    throw Napi::RangeError::New(env, "fds: one, or with threads up to 4096");
  }
  std::vector<int> fds;
  for (uint32_t n = 0; n < count; n++) {
    Napi::Value v = array[n];
    double fd = v.IsNumber() ? v.As<Napi::Number>().DoubleValue() : -1;
    if (!(fd >= 0 && fd <= std::numeric_limits<int>::max())) throw Napi::RangeError::New(env, "fds: not a descriptor");
    fds.push_back(static_cast<int>(fd));
  }
  auto h = std::make_unique<Holder>();
  h->env = env;
  h->count = count;
  h->states.resize(count);
  h->rings.resize(count);
  h->counters = std::shared_ptr<double[]>(new double[count * kCells]());
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "there is no event loop");
  try {
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    for (uint32_t n = 0; n < count; n++) {
      vcpus.push_back(std::make_unique<Vcpu>(static_cast<int>(n), fds[n], mapSize, ringSize, h->counters));
    }
    h->runner = threads ? MakeThreadRunner(loop, std::move(vcpus)) : MakeInlineRunner(loop, std::move(vcpus[0]));
  } catch (const std::system_error& e) {
    throw Failed(env, "runnerCreate", e.code().value());
  }
  h->known = *static_cast<std::shared_ptr<Holders>*>(info.Data());
  h->known->push_back(h.get());
  napi_add_env_cleanup_hook(env, OnThreadEnd, h.get());
  return Napi::External<Holder>::New(env, h.release(), [](Napi::Env, Holder* h) {
    h->known->erase(std::find(h->known->begin(), h->known->end(), h));
    // Forgotten: nobody can wait.
    if (h->runner != nullptr) {
      napi_remove_env_cleanup_hook(h->env, OnThreadEnd, h);
      h->runner->Stop(kLeaveWithin);
    }
    delete h;
  });
}

/** A mapping as an ArrayBuffer, the same one each time, which `kept` holds. */
Napi::Value BufferOf(Napi::Env env, const Mapping& m, Napi::Reference<Napi::ArrayBuffer>& kept) {
  if (kept.IsEmpty()) {
    kept = Napi::Persistent(Napi::ArrayBuffer::New(env, m.data, m.size, [](Napi::Env, void*) {}));
  }
  return kept.Value();
}

/** runnerState(runner, vcpu) => ArrayBuffer */
Napi::Value RunnerState(Info info) {
  Holder& h = HolderOfArgument(info);
  size_t n = VcpuOfArgument(info, h);
  return BufferOf(info.Env(), h.runner->At(n).state, h.states[n]);
}

/** runnerRing(runner, vcpu) => ArrayBuffer */
Napi::Value RunnerRing(Info info) {
  Holder& h = HolderOfArgument(info);
  size_t n = VcpuOfArgument(info, h);
  const Mapping& ring = h.runner->At(n).ring;
  if (ring.size == 0) throw Napi::RangeError::New(info.Env(), "the runner was made without dirty rings");
  return BufferOf(info.Env(), ring, h.rings[n]);
}

/** runnerCounters(runner) => Float64Array, which outlives the runner */
Napi::Value RunnerCounters(Info info) {
  Holder& h = HolderOfArgument(info);
  if (h.rows.IsEmpty()) {
    size_t cells = h.count * kCells;
    auto* keep = new std::shared_ptr<double[]>(h.counters);
    auto buffer = Napi::ArrayBuffer::New(
        info.Env(), keep->get(), cells * sizeof(double),
        [](Napi::Env, void*, std::shared_ptr<double[]>* kept) { delete kept; }, keep);
    h.rows = Napi::Reference<Napi::Value>::New(Napi::Float64Array::New(info.Env(), cells, buffer, 0), 1);
  }
  return h.rows.Value();
}

/** run(runner, limitNs?) => number. Called for each exit: as little as possible happens here, so without node-addon-api. */
napi_value Run(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2] = {};
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, arguments, nullptr, &data);
  const char* wrong = nullptr;
  Holder* h = FindHolder(env, arguments[0], **static_cast<std::shared_ptr<Holders>*>(data), &wrong);
  if (h == nullptr) {
    napi_throw_type_error(env, nullptr, wrong);
    return nullptr;
  }
  Ns now = Now();
  double limit = -1;
  napi_valuetype type = napi_undefined;
  if (napi_get_value_double(env, arguments[1], &limit) == napi_ok && limit >= 0) {
    h->deadline = Deadline(now, limit);
  } else if (napi_typeof(env, arguments[1], &type) != napi_ok || type != napi_undefined) {
    napi_throw_range_error(env, nullptr, "limitNs is out of range");
    return nullptr;
  }
  napi_value result = nullptr;
  napi_create_int32(env, h->runner->Run(now, h->deadline), &result);
  return result;
}

/** loopTimeoutNs() => number */
Napi::Value LoopTimeoutNs(Info info) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(info.Env(), &loop) != napi_ok) throw Napi::Error::New(info.Env(), "there is no event loop");
  uv_update_time(loop);
  int ms = uv_backend_timeout(loop);
  return Napi::Number::New(info.Env(), ms < 0 ? kInfinity : static_cast<double>(ms) * kMillisecond);
}

/** kick(runner) */
Napi::Value Kick(Info info) {
  HolderOfArgument(info).runner->Kick();
  return info.Env().Undefined();
}

/** pause(runner, limitMs) => boolean */
Napi::Value Pause(Info info) {
  Holder& h = HolderOfArgument(info);
  return Napi::Boolean::New(info.Env(), h.runner->Pause(Milliseconds(info, 1, "limitMs")));
}

/** completeExit(runner, vcpu) => errno */
Napi::Value CompleteExit(Info info) {
  Holder& h = HolderOfArgument(info);
  return Napi::Number::New(info.Env(), h.runner->CompleteExit(VcpuOfArgument(info, h)));
}

/** runnerWatch(runner, fd, tag) */
Napi::Value RunnerWatch(Info info) {
  Holder& h = HolderOfArgument(info);
  int fd = Fd(info, 1);
  auto tag = static_cast<int>(NumberOfArgument(info, 2, "tag", 0, 1e6));
  try {
    h.runner->doorbells().Watch(fd, tag);
  } catch (const std::system_error& e) {
    throw Failed(info.Env(), "epoll_ctl", e.code().value());
  }
  return info.Env().Undefined();
}

/** runnerUnwatch(runner, fd) */
Napi::Value RunnerUnwatch(Info info) {
  Holder& h = HolderOfArgument(info);
  try {
    h.runner->doorbells().Unwatch(Fd(info, 1));
  } catch (const std::system_error& e) {
    throw Failed(info.Env(), "epoll_ctl", e.code().value());
  }
  return info.Env().Undefined();
}

/** runnerDestroy(runner, limitMs) => boolean; a second call does nothing and returns true */
Napi::Value RunnerDestroy(Info info) {
  Napi::Env env = info.Env();
  Holder& h = HolderOfArgument(info);
  Ns limit = Milliseconds(info, 1, "limitMs");
  napi_remove_env_cleanup_hook(env, OnThreadEnd, &h);
  // JavaScript loses kvm_run and the rings before they are unmapped.
  for (auto* buffers : {&h.states, &h.rings}) {
    for (auto& b : *buffers) {
      if (!b.IsEmpty()) b.Value().Detach();
      b.Reset();
    }
  }
  h.rows.Reset();
  bool all = h.runner->Stop(limit);
  h.runner.reset();
  return Napi::Boolean::New(env, all);
}

/** runnerWatchdog(runner, ms) => fd */
Napi::Value RunnerWatchdog(Info info) {
  Holder& h = HolderOfArgument(info);
  h.runner->SetWatchdog(Milliseconds(info, 1, "ms"));
  int fd = ::fcntl(h.runner->watchdog().get(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) throw Failed(info.Env(), "fcntl", errno);
  return Napi::Number::New(info.Env(), fd);
}

/** exitNow(code) */
Napi::Value ExitNow(Info info) { ::_exit(static_cast<int>(NumberOfArgument(info, 0, "code", 0, 255))); }

}  // namespace

void ExportVcpu(Napi::Env env, Napi::Object exports) {
  // For the exports; an external may outlive them.
  auto* known = new std::shared_ptr<Holders>(std::make_shared<Holders>());
  env.AddCleanupHook([](std::shared_ptr<Holders>* k) { delete k; }, known);
  const auto add = [&](const char* name, Napi::Value (*f)(Info)) {
    exports.Set(name, Napi::Function::New(env, f, name, known));
  };
  add("runnerCreate", RunnerCreate);
  add("runnerState", RunnerState);
  add("runnerRing", RunnerRing);
  add("runnerCounters", RunnerCounters);
  napi_value run = nullptr;
  if (napi_create_function(env, "run", NAPI_AUTO_LENGTH, Run, known, &run) != napi_ok) throw Napi::Error::New(env);
  exports.Set("run", run);
  add("loopTimeoutNs", LoopTimeoutNs);
  add("kick", Kick);
  add("pause", Pause);
  add("completeExit", CompleteExit);
  add("runnerWatch", RunnerWatch);
  add("runnerUnwatch", RunnerUnwatch);
  add("runnerDestroy", RunnerDestroy);
  add("runnerWatchdog", RunnerWatchdog);
  add("exitNow", ExitNow);
}

}  // namespace tsvisor
