#pragma once
#include <napi.h>

namespace tsvisor {

/** Adds the functions that wait for file descriptors to the addon's exports. */
void ExportWatch(Napi::Env env, Napi::Object exports);

}  // namespace tsvisor
