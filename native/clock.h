#pragma once
#include <napi.h>

namespace tsvisor {

/** Adds the function that reads two clocks at one moment to the addon's exports. */
void ExportClock(Napi::Env env, Napi::Object exports);

}  // namespace tsvisor
