// CLOCK_REALTIME and CLOCK_MONOTONIC at one moment. No call of the system reads both: realtime is read between two readings of the
// monotonic clock, which bound the moment.
#include "clock.h"

#include <stdint.h>
#include <time.h>

#include "fd.h"

namespace tsvisor {
namespace {

/** Brackets that are tried: the first may run with cold caches, and any may be interrupted. */
constexpr int kTries = 5;
/** A bracket that is good enough, ns: two readings through the vDSO take some 50. */
constexpr int64_t kNarrow = 200;

int64_t Read(clockid_t clock) {
  timespec t;
  ::clock_gettime(clock, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

/**
 * clockPair(into): ns as signed 64-bit numbers into the first three elements of a BigInt64Array: CLOCK_MONOTONIC in the middle of the
 * narrowest bracket, CLOCK_REALTIME read in it, the bracket's width. Allocates nothing. CLOCK_MONOTONIC is the clock of
 * process.hrtime(): uv_hrtime() reads it (libuv, src/unix/linux.c).
 */
Napi::Value ClockPair(Info info) {
  Napi::Env env = info.Env();
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  // The plain C call takes views of a SharedArrayBuffer, too.
  if (napi_get_typedarray_info(env, info[0], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_bigint64_array) {
    throw Napi::TypeError::New(env, "into must be a BigInt64Array");
  }
  if (length < 3) throw Napi::RangeError::New(env, "into must have three elements");

  int64_t monotonic = 0;
  int64_t realtime = 0;
  int64_t width = INT64_MAX;
  int64_t before = Read(CLOCK_MONOTONIC);
  for (int i = 0; i < kTries && width > kNarrow; i++) {
    int64_t wall = Read(CLOCK_REALTIME);
    int64_t after = Read(CLOCK_MONOTONIC);
    if (after - before < width) {
      width = after - before;
      monotonic = before + width / 2;
      realtime = wall;
    }
    before = after;
  }
  auto* out = static_cast<int64_t*>(data);
  out[0] = monotonic;
  out[1] = realtime;
  out[2] = width;
  return env.Undefined();
}

}  // namespace

void ExportClock(Napi::Env env, Napi::Object exports) {
  exports.Set("clockPair", Napi::Function::New(env, ClockPair, "clockPair"));
}

}  // namespace tsvisor
