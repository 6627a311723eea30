#pragma once
#include <napi.h>

namespace tsvisor {

/** Adds the file-descriptor functions to the addon's exports. No state: any number of Workers may load the addon. */
void ExportFd(Napi::Env env, Napi::Object exports);

}  // namespace tsvisor
