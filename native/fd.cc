// File descriptors, ioctl, eventfd, mmap, madvise, addresses and limits for TypeScript.
//
// A wrong buffer would corrupt the process, so the checks live here, below any TypeScript: ioctl() compares the buffer with
// the size that the request number itself carries, and addresses never become numbers that JavaScript could change.
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/ioctl.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <string>

namespace tsvisor {

Napi::Error Failed(Napi::Env env, const char* call, int number) {
  Napi::Error e = Napi::Error::New(env, std::string(call) + ": " + strerror(number));
  e.Value().Set("errno", Napi::Number::New(env, number));
  e.Value().Set("syscall", Napi::String::New(env, call));
  return e;
}

namespace {

/** A whole number in [low, high], or a RangeError that names the argument. */
int64_t Whole(Info info, size_t index, const char* name, int64_t low, int64_t high) {
  Napi::Env env = info.Env();
  if (!info[index].IsNumber()) throw Napi::TypeError::New(env, std::string(name) + " must be a number");
  double v = info[index].As<Napi::Number>().DoubleValue();
  if (std::trunc(v) != v || v < static_cast<double>(low) || v > static_cast<double>(high)) {
    throw Napi::RangeError::New(env, std::string(name) + " is out of range");
  }
  return static_cast<int64_t>(v);
}

}  // namespace

int Fd(Info info, size_t index) {
  return static_cast<int>(Whole(info, index, "fd", 0, std::numeric_limits<int>::max()));
}

namespace {

/** The bytes of a typed array, a DataView or a Buffer. */
struct Bytes {
  uint8_t* data;
  size_t length;
};

Bytes BytesOf(Napi::Env env, Napi::Value v, const char* name) {
  if (v.IsTypedArray()) {
    // ArrayBuffer() of a view of a SharedArrayBuffer is none; the plain C call gives the data of both.
    void* data = nullptr;
    size_t length = 0;
    napi_typedarray_type type = napi_uint8_array;
    if (napi_get_typedarray_info(env, v, &type, &length, &data, nullptr, nullptr) != napi_ok) {
      throw Napi::TypeError::New(env, std::string(name) + " is not readable");
    }
    static const size_t kWidth[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
    return {static_cast<uint8_t*>(data), length * kWidth[type]};
  }
  if (v.IsDataView()) {
    void* data = nullptr;
    size_t length = 0;
    if (napi_get_dataview_info(env, v, &length, &data, nullptr, nullptr) != napi_ok) {
      throw Napi::TypeError::New(env, std::string(name) + " is not readable");
    }
    return {static_cast<uint8_t*>(data), length};
  }
  throw Napi::TypeError::New(env, std::string(name) + " must be a typed array or a DataView");
}

/** open(path, flags, mode?) => fd. O_CLOEXEC is always added: no child process gets a VM by accident. */
Napi::Value Open(Info info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "path must be a string");
  std::string path = info[0].As<Napi::String>().Utf8Value();
  if (path.find('\0') != std::string::npos) throw Napi::TypeError::New(env, "path must not contain a zero byte");
  int flags = static_cast<int>(Whole(info, 1, "flags", 0, std::numeric_limits<int>::max()));
  int mode = info[2].IsUndefined() ? 0600 : static_cast<int>(Whole(info, 2, "mode", 0, 07777));
  int fd;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) throw Failed(env, "open", errno);
  return Napi::Number::New(env, fd);
}

/** close(fd). Not repeated after EINTR: Linux has closed the descriptor then (close(2)). */
Napi::Value Close(Info info) {
  if (::close(Fd(info, 0)) < 0 && errno != EINTR) throw Failed(info.Env(), "close", errno);
  return info.Env().Undefined();
}

/**
 * ioctl(fd, request, argument) => result. `argument` is a whole number, passed as it is, or a buffer. A buffer is
 * refused when it is smaller than the size in the request number, or when the number carries none: the kernel would be
 * free to write beyond it. A number for a request with a size is refused too, for the kernel would take it for an address.
 */
Napi::Value Ioctl(Info info) {
  Napi::Env env = info.Env();
  int fd = Fd(info, 0);
  auto request = static_cast<uint32_t>(Whole(info, 1, "request", 0, UINT32_MAX));
  // TUNSETIFF and TUNGETIFF say that they take an int, and move a struct ifreq.
  bool interface = request == TUNSETIFF || request == TUNGETIFF;
  size_t size = interface ? sizeof(struct ifreq) : _IOC_SIZE(request);
  unsigned long argument = 0;
  if (info[2].IsNumber() || info[2].IsUndefined()) {
    // TUNSETOFFLOAD has a size, and yet the kernel takes its argument for flags.
    if (size > 0 && request != TUNSETOFFLOAD) {
      throw Napi::RangeError::New(env, "ioctl: this request takes a buffer, not a number");
    }
    if (info[2].IsNumber()) {
      argument = static_cast<unsigned long>(Whole(info, 2, "argument", -(INT64_C(1) << 53), INT64_C(1) << 53));
    }
  } else {
    Bytes b = BytesOf(env, info[2], "argument");
    if (size == 0) throw Napi::RangeError::New(env, "ioctl: this request has no size and takes no buffer");
    if (size > b.length) {
      throw Napi::RangeError::New(env, "ioctl: the request needs " + std::to_string(size) + " bytes, the buffer has " +
                                           std::to_string(b.length));
    }
    argument = reinterpret_cast<unsigned long>(b.data);
  }
  int result = ::ioctl(fd, request, argument);
  if (result < 0) throw Failed(env, "ioctl", errno);
  return Napi::Number::New(env, result);
}

/** eventfd(initial, flags) => fd. */
Napi::Value EventFd(Info info) {
  auto initial = static_cast<unsigned>(Whole(info, 0, "initial", 0, UINT32_MAX));
  int flags = static_cast<int>(Whole(info, 1, "flags", 0, std::numeric_limits<int>::max()));
  int fd = ::eventfd(initial, flags | EFD_CLOEXEC);
  if (fd < 0) throw Failed(info.Env(), "eventfd", errno);
  return Napi::Number::New(info.Env(), fd);
}

/** eventfdRead(fd) => bigint, or undefined when a non-blocking one has nothing. */
Napi::Value EventFdRead(Info info) {
  int fd = Fd(info, 0);
  uint64_t value = 0;
  ssize_t n;
  do n = ::read(fd, &value, sizeof value);
  while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return info.Env().Undefined();
  if (n < 0) throw Failed(info.Env(), "read", errno);
  if (n != sizeof value) throw Failed(info.Env(), "read", EINVAL);
  return Napi::BigInt::New(info.Env(), value);
}

/** eventfdWrite(fd, value: bigint). */
Napi::Value EventFdWrite(Info info) {
  Napi::Env env = info.Env();
  int fd = Fd(info, 0);
  if (!info[1].IsBigInt()) throw Napi::TypeError::New(env, "value must be a bigint");
  bool lossless = false;
  uint64_t value = info[1].As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw Napi::RangeError::New(env, "value is out of range");
  ssize_t n;
  do n = ::write(fd, &value, sizeof value);
  while (n < 0 && errno == EINTR);
  if (n < 0) throw Failed(env, "write", errno);
  return env.Undefined();
}

/** mmap(length, prot, flags, fd, offset) => ArrayBuffer over the mapping, which ends when the buffer is collected. */
Napi::Value Mmap(Info info) {
  Napi::Env env = info.Env();
  constexpr int kMax = std::numeric_limits<int>::max();
  auto length = static_cast<size_t>(Whole(info, 0, "length", 1, INT64_C(1) << 40));
  int prot = static_cast<int>(Whole(info, 1, "prot", 0, kMax));
  int flags = static_cast<int>(Whole(info, 2, "flags", 0, kMax));
  int fd = static_cast<int>(Whole(info, 3, "fd", -1, kMax));
  auto offset = static_cast<off_t>(Whole(info, 4, "offset", 0, INT64_C(1) << 53));
  // MAP_FIXED (the address would be 0 here) could only tear down somebody else's mapping.
  if (flags & MAP_FIXED) throw Napi::RangeError::New(env, "mmap: MAP_FIXED is not supported");
  void* data = ::mmap(nullptr, length, prot, flags, fd, offset);
  if (data == MAP_FAILED) throw Failed(env, "mmap", errno);
  try {
    return Napi::ArrayBuffer::New(env, data, length, [length](Napi::Env, void* p) { ::munmap(p, length); });
  } catch (...) {
    ::munmap(data, length);
    throw;
  }
}

struct Advice {
  const char* name;
  int value;
};

/** What memory may be told: nothing that could make an access fail. */
const Advice kAdvice[] = {
    {"MADV_DONTNEED", MADV_DONTNEED},
    {"MADV_REMOVE", MADV_REMOVE},
    {"MADV_DONTFORK", MADV_DONTFORK},
};

/**
 * madvise(view, offset, length, advice): about [offset, offset + length) of the view's bytes, whole pages of the host.
 * `advice` is one of the names above.
 */
Napi::Value Madvise(Info info) {
  Napi::Env env = info.Env();
  Bytes b = BytesOf(env, info[0], "view");
  auto offset = static_cast<size_t>(Whole(info, 1, "offset", 0, INT64_C(1) << 53));
  auto length = static_cast<size_t>(Whole(info, 2, "length", 0, INT64_C(1) << 53));
  if (offset > b.length || length > b.length - offset) {
    throw Napi::RangeError::New(env, "madvise: length is out of range");
  }
  if (!info[3].IsString()) throw Napi::TypeError::New(env, "advice must be a string");
  std::string name = info[3].As<Napi::String>().Utf8Value();
  const Advice* advice = nullptr;
  for (const Advice& a : kAdvice) {
    if (name == a.name) advice = &a;
  }
  if (advice == nullptr) throw Napi::RangeError::New(env, "madvise: unknown advice");
  auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  uint8_t* start = b.data + offset;
  // The kernel would round the length up, to bytes that are not the view's.
  if (reinterpret_cast<uintptr_t>(start) % page != 0 || length % page != 0) {
    throw Napi::RangeError::New(env, "madvise: not whole pages of " + std::to_string(page) + " bytes");
  }
  if (length > 0 && ::madvise(start, length, advice->value) < 0) throw Failed(env, "madvise", errno);
  return env.Undefined();
}

/** pageSize() => bytes of a page of the host. */
Napi::Value PageSize(Info info) {
  return Napi::Number::New(info.Env(), static_cast<double>(::sysconf(_SC_PAGESIZE)));
}

/** counterHz() => ticks per second of the system counter, which guests share (CNTFRQ_EL0); 0 where there is none. */
Napi::Value CounterHz(Info info) {
  uint64_t hz = 0;
#ifdef __aarch64__
  asm("mrs %0, cntfrq_el0" : "=r"(hz));
#endif
  return Napi::Number::New(info.Env(), static_cast<double>(hz));
}

/** A host address with the buffer that it points into, kept alive. */
struct Address {
  Napi::Reference<Napi::Value> buffer;
  uint64_t value;
  size_t length;
};

const napi_type_tag kAddressTag = {0x7473766973766f72, 0x6164647265737331};

Napi::External<Address> AddressOfArgument(Info info, size_t index) {
  Napi::Value v = info[index];
  bool ours = false;
  if (!v.IsExternal() ||
      napi_check_object_type_tag(info.Env(), v, &kAddressTag, &ours) != napi_ok || !ours) {
    throw Napi::TypeError::New(info.Env(), "address must come from addressOf()");
  }
  return v.As<Napi::External<Address>>();
}

/** addressOf(view) => an opaque address, which keeps the view's memory alive until releaseAddress() or collection. */
Napi::Value AddressOf(Info info) {
  Napi::Env env = info.Env();
  Bytes b = BytesOf(env, info[0], "view");
  auto* a = new Address{Napi::Reference<Napi::Value>::New(info[0], 1), reinterpret_cast<uint64_t>(b.data), b.length};
  auto e = Napi::External<Address>::New(env, a, [](Napi::Env, Address* p) { delete p; });
  napi_type_tag_object(env, e, &kAddressTag);
  return e;
}

/** storeAddress(into, offset, address): writes the 64-bit address into a structure for the kernel. */
Napi::Value StoreAddress(Info info) {
  Napi::Env env = info.Env();
  Bytes b = BytesOf(env, info[0], "into");
  auto offset = static_cast<size_t>(Whole(info, 1, "offset", 0, INT64_C(1) << 40));
  Address* a = AddressOfArgument(info, 2).Data();
  if (a->buffer.IsEmpty()) throw Napi::Error::New(env, "the address has been released");
  if (b.length < 8 || offset > b.length - 8) throw Napi::RangeError::New(env, "storeAddress: offset is out of range");
  memcpy(b.data + offset, &a->value, 8);
  return env.Undefined();
}

/** releaseAddress(address): the memory may be collected again; a second call does nothing. */
Napi::Value ReleaseAddress(Info info) {
  AddressOfArgument(info, 0).Data()->buffer.Reset();
  return info.Env().Undefined();
}

/** prlimit(resource, soft?, hard?) => [soft, hard] as bigints, before a change; 2^64-1 is no limit. */
Napi::Value Prlimit(Info info) {
  Napi::Env env = info.Env();
  int64_t resource = Whole(info, 0, "resource", 0, 1000);
  struct { uint64_t rlim_cur, rlim_max; } before{}, after{};
  bool change = info[1].IsBigInt() && info[2].IsBigInt();
  if (change) {
    bool lossless = false;
    after.rlim_cur = info[1].As<Napi::BigInt>().Uint64Value(&lossless);
    after.rlim_max = info[2].As<Napi::BigInt>().Uint64Value(&lossless);
  }
  // By number: glibc and musl declare different types for the resource.
  if (::syscall(SYS_prlimit64, 0, resource, change ? &after : nullptr, &before) < 0) throw Failed(env, "prlimit", errno);
  Napi::Array result = Napi::Array::New(env, 2);
  result[0u] = Napi::BigInt::New(env, before.rlim_cur);
  result[1u] = Napi::BigInt::New(env, before.rlim_max);
  return result;
}

}  // namespace

void ExportFd(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*f)(Info)) { exports.Set(name, Napi::Function::New(env, f, name)); };
  add("open", Open);
  add("close", Close);
  add("ioctl", Ioctl);
  add("eventfd", EventFd);
  add("eventfdRead", EventFdRead);
  add("eventfdWrite", EventFdWrite);
  add("mmap", Mmap);
  add("madvise", Madvise);
  add("pageSize", PageSize);
  add("counterHz", CounterHz);
  add("addressOf", AddressOf);
  add("storeAddress", StoreAddress);
  add("releaseAddress", ReleaseAddress);
  add("prlimit", Prlimit);
}

}  // namespace tsvisor
