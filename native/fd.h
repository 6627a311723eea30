#pragma once
#include <napi.h>

namespace tsvisor {

using Info = const Napi::CallbackInfo&;

/** An Error with `errno` (a number) and `syscall`; TypeScript adds the name of the errno. */
Napi::Error Failed(Napi::Env env, const char* call, int number);

/** The file descriptor that an argument is; throws a TypeError or a RangeError for anything else. */
int Fd(Info info, size_t index);

/** Adds the file-descriptor functions to the addon's exports. No state: any number of Workers may load the addon. */
void ExportFd(Napi::Env env, Napi::Object exports);

}  // namespace tsvisor
