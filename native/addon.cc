// The addon's entry. Of KVM and VFIO it knows KVM_RUN only: all else are requests and structures that TypeScript composes.
#include <napi.h>

#include "clock.h"
#include "fd.h"
#include "vcpu.h"
#include "watch.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  tsvisor::ExportClock(env, exports);
  tsvisor::ExportFd(env, exports);
  tsvisor::ExportWatch(env, exports);
  tsvisor::ExportVcpu(env, exports);
  // The loader leaves an addon of another version alone.
  exports.Set("version", TSVISOR_VERSION);
  exports.Set("napi", NAPI_VERSION);
  return exports;
}

// Context-aware by construction: nothing tied to a particular event loop, no static state but the handler of the signal
// that ends KVM_RUN.
NODE_API_MODULE(tsvisor, Init)
