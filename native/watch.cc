// Waiting for file descriptors that Node has no stream for (TAP devices, eventfds): epoll by way of libuv, on the event loop
// of the thread that asks. No thread of its own, and no poll timer.
#include "watch.h"

#include <uv.h>

#include "fd.h"

namespace tsvisor {
namespace {

struct Watch;

/** What JavaScript holds: empty once the watch has ended. */
struct Holder {
  Watch* watch;
};

struct Watch {
  uv_poll_t poll;
  napi_env env;
  Napi::FunctionReference callback;
  napi_async_cleanup_hook_handle hook = nullptr;
  Holder* holder = nullptr;
};

const napi_type_tag kWatchTag = {0x7473766973766f72, 0x7761746368303031};

/** Calls back with 0 when there is something to read, or with an errno, after which there are no more calls. */
void OnEvent(uv_poll_t* poll, int status, int) {
  auto* w = static_cast<Watch*>(poll->data);
  Napi::Env env(w->env);
  Napi::HandleScope scope(env);
  try {
    w->callback.MakeCallback(env.Global(), {Napi::Number::New(env, status < 0 ? -status : 0)});
  } catch (const Napi::Error& e) {
    // libuv is C: what the callback threw becomes the thread's uncaught exception, as it does in a timer.
    napi_fatal_exception(env, e.Value());
  }
}

/** Ends a watch; its memory is libuv's until the handle is closed. */
void End(Watch* w) {
  if (w->holder != nullptr) w->holder->watch = nullptr;
  w->holder = nullptr;
  w->callback.Reset();
  uv_close(reinterpret_cast<uv_handle_t*>(&w->poll), [](uv_handle_t* handle) {
    auto* w = static_cast<Watch*>(handle->data);
    napi_remove_async_cleanup_hook(w->hook);
    delete w;
  });
}

/** The thread ends before the watch: Node turns the loop until the hook has been removed. */
void OnThreadEnd(napi_async_cleanup_hook_handle, void* data) {
  auto* w = static_cast<Watch*>(data);
  if (!uv_is_closing(reinterpret_cast<uv_handle_t*>(&w->poll))) End(w);
}

Holder* HolderOfArgument(Info info, size_t index) {
  Napi::Value v = info[index];
  bool ours = false;
  if (!v.IsExternal() || napi_check_object_type_tag(info.Env(), v, &kWatchTag, &ours) != napi_ok || !ours) {
    throw Napi::TypeError::New(info.Env(), "watch must come from watch()");
  }
  return v.As<Napi::External<Holder>>().Data();
}

/**
 * watch(fd, callback) => watch. callback(0) is called in each turn of the event loop in which `fd` is readable;
 * callback(errno) once when it can no longer be waited for. `fd` becomes non-blocking and must stay open until unwatch(). A
 * watch does not keep the process alive.
 */
Napi::Value WatchFd(Info info) {
  Napi::Env env = info.Env();
  int fd = Fd(info, 0);
  if (!info[1].IsFunction()) throw Napi::TypeError::New(env, "callback must be a function");
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "there is no event loop");
  auto* w = new Watch{};
  int result = uv_poll_init(loop, &w->poll, fd);
  if (result < 0) {
    delete w;
    throw Failed(env, "epoll_ctl", -result);
  }
  w->poll.data = w;
  w->env = env;
  w->callback = Napi::Persistent(info[1].As<Napi::Function>());
  uv_unref(reinterpret_cast<uv_handle_t*>(&w->poll));
  napi_add_async_cleanup_hook(env, OnThreadEnd, w, &w->hook);
  uv_poll_start(&w->poll, UV_READABLE, OnEvent);
  w->holder = new Holder{w};
  auto e = Napi::External<Holder>::New(env, w->holder, [](Napi::Env, Holder* h) {
    if (h->watch != nullptr) h->watch->holder = nullptr;
    delete h;
  });
  napi_type_tag_object(env, e, &kWatchTag);
  return e;
}

/** setWatching(watch, wanted): stops the callbacks for a while, or goes on. Nothing happens after unwatch(). */
Napi::Value SetWatching(Info info) {
  Watch* w = HolderOfArgument(info, 0)->watch;
  if (w == nullptr) return info.Env().Undefined();
  if (info[1].ToBoolean()) uv_poll_start(&w->poll, UV_READABLE, OnEvent);
  else uv_poll_stop(&w->poll);
  return info.Env().Undefined();
}

/** unwatch(watch): no callback from here on; the descriptor may be closed. A second call does nothing. */
Napi::Value Unwatch(Info info) {
  Watch* w = HolderOfArgument(info, 0)->watch;
  if (w != nullptr) End(w);
  return info.Env().Undefined();
}

}  // namespace

void ExportWatch(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*f)(Info)) { exports.Set(name, Napi::Function::New(env, f, name)); };
  add("watch", WatchFd);
  add("setWatching", SetWatching);
  add("unwatch", Unwatch);
}

}  // namespace tsvisor
