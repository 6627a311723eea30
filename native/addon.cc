// The addon's entry. It knows nothing of KVM or VFIO: those are requests and structures that TypeScript composes.
#include <napi.h>

#include "fd.h"
#include "watch.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  tsvisor::ExportFd(env, exports);
  tsvisor::ExportWatch(env, exports);
  // The loader leaves an addon of another version alone.
  exports.Set("version", TSVISOR_VERSION);
  exports.Set("napi", NAPI_VERSION);
  return exports;
}

// Context-aware by construction: no static state, nothing tied to a particular event loop.
NODE_API_MODULE(tsvisor, Init)
