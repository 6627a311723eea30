import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VmError } from '../../util/errors.ts';
import { type Libc, libcOf } from './elf.ts';
import { type AddonHost, type AddonState, findAddon } from './find-addon.ts';

declare const address: unique symbol;
/** A host address that only the addon can read or make; it keeps the memory that it points into alive. */
export type HostAddress = { readonly [address]: never };

/** What madvise() may say of memory; see madvise(2). */
export type MemoryAdvice = 'MADV_DONTNEED' | 'MADV_REMOVE' | 'MADV_DONTFORK';

declare const watch: unique symbol;
/** A file descriptor that the thread's event loop waits for. */
export type FdWatch = { readonly [watch]: never };

declare const runner: unique symbol;
/** The vCPUs of one VM, and the loop that runs them (native/vcpu.h). */
export type VcpuRunner = { readonly [runner]: never };

/** The addon's functions as they are (native/fd.cc, native/clock.cc, native/watch.cc, native/vcpu.cc). Use them through host.ts, which names the errors. */
export interface Addon {
  /** The version of tsvisor that it was built from, and the version of Node-API that it needs. */
  readonly version: string;
  readonly napi: number;
  open(path: string, flags: number, mode?: number): number;
  close(fd: number): void;
  ioctl(fd: number, request: number, argument?: number | ArrayBufferView): number;
  eventfd(initial: number, flags: number): number;
  eventfdRead(fd: number): bigint | undefined;
  eventfdWrite(fd: number, value: bigint): void;
  mmap(length: number, prot: number, flags: number, fd: number, offset: number): ArrayBuffer;
  /** [offset, offset + length) of the view's bytes must be whole pages of the host. */
  madvise(view: ArrayBufferView, offset: number, length: number, advice: MemoryAdvice): void;
  /** Bytes of a page of the host. */
  pageSize(): number;
  /** Ticks per second of the system counter that guests of KVM share (arm64's CNTFRQ_EL0); 0 on other architectures. */
  counterHz(): number;
  /**
   * Reads CLOCK_REALTIME between two readings of CLOCK_MONOTONIC, some times over, and stores the narrowest of them in `into`, ns:
   * [0] CLOCK_MONOTONIC (the clock of process.hrtime()) in the middle, [1] CLOCK_REALTIME, [2] how long the three readings took.
   * `into` has three elements or more. Allocates nothing.
   */
  clockPair(into: BigInt64Array): void;
  addressOf(view: ArrayBufferView): HostAddress;
  storeAddress(into: ArrayBufferView, offset: number, address: HostAddress): void;
  releaseAddress(address: HostAddress): void;
  prlimit(resource: number, soft?: bigint, hard?: bigint): [soft: bigint, hard: bigint];
  /** Calls back with 0 whenever `fd` is readable, and once with an errno when it can no longer be waited for. */
  watch(fd: number, callback: (errno: number) => void): FdWatch;
  setWatching(watch: FdWatch, wanted: boolean): void;
  /** Ends a watch; before its descriptor is closed. */
  unwatch(watch: FdWatch): void;

  /**
   * Takes the file descriptors of a VM's vCPUs (they stay the caller's, who closes them after runnerDestroy()) and maps the
   * kvm_run of each, `mapSize` bytes (KVM_GET_VCPU_MMAP_SIZE). `threads` false: exactly one vCPU, run on the thread that
   * calls run(); true: a native thread for each, parked at first. `ringSize`: bytes of each vCPU's dirty ring, which is mapped
   * too, where the VM has them (0: it has none).
   */
  runnerCreate(fds: readonly number[], mapSize: number, threads: boolean, ringSize?: number): VcpuRunner;
  /** kvm_run of a vCPU; detached when the runner is destroyed. */
  runnerState(runner: VcpuRunner, vcpu: number): ArrayBuffer;
  /** The dirty ring of a vCPU (api.rst 8.29); detached when the runner is destroyed. */
  runnerRing(runner: VcpuRunner, vcpu: number): ArrayBuffer;
  /**
   * Counters, a row of 8 for each vCPU, written by native code: [0] calls of KVM_RUN, [1] exits delivered to TypeScript,
   * [2] ns inside KVM_RUN, [3] ns waiting for TypeScript's answer, [4] kicks, [5] errno of the last KVM_RUN that failed
   * otherwise than by EINTR or EAGAIN (0: none), [6] state: 0 parked, 1 running, 2 an exit that run() has not returned yet,
   * 3 failed, [7] reserved.
   */
  runnerCounters(runner: VcpuRunner): Float64Array;
  /**
   * Lets the vCPUs run until one of them has an exit for TypeScript, this thread's event loop has work (file descriptors and
   * timers; not immediates), `limitNs` ns from now have passed (Infinity: no limit; left out: at the time that the run() before was given) or kick() was
   * called.
   *
   * @returns a vCPU's number for an exit: its kvm_run tells which, and the next run() resumes it, with the answer in its
   *   kvm_run. A vCPU whose KVM_RUN failed is returned once, counter [5] set; it does not run again before a pause().
   *   -1 for everything else; -1000 - tag for a doorbell of runnerWatch(). With threads also -2 - n: vCPU n did not come out
   *   of KVM_RUN in the watchdog's time after a kick (told once for each kick).
   */
  run(runner: VcpuRunner, limitNs?: number): number;
  /**
   * ns until the event loop of this thread has something to do by itself: 0 while immediates, closing handles or callbacks
   * wait, which is always so inside of an immediate; Infinity without a timer.
   */
  loopTimeoutNs(): number;
  /** Ends run(), or the next one. With threads it also brings the vCPUs out of KVM_RUN for a moment: a test of their health. */
  kick(runner: VcpuRunner): void;
  /**
   * true: no vCPU is inside KVM_RUN, and they stay so until the next run(). false: one did not come out within `limitMs`.
   * A vCPU in state 2 (see the counters) has an exit that run() has not returned: the next run() does, or completeExit() may
   * be called once it is answered.
   */
  pause(runner: VcpuRunner, limitMs: number): boolean;
  /**
   * KVM_RUN once with immediate_exit set: the kernel takes the answer to the last exit in and runs no guest code (api.rst,
   * section 5, "immediate_exit"). Only while paused, or with a vCPU that runs inline.
   *
   * @returns an errno: EINTR (4) when that is done; 0 when the instruction caused a further exit, to be answered now and
   *   completed too; EBUSY (16) when the vCPU is not paused; ETIMEDOUT (110) when it is stuck.
   */
  completeExit(runner: VcpuRunner, vcpu: number): number;
  /**
   * A doorbell's eventfd, which ends run() like an exit with -1000 - tag (`tag` is 0 to 1e6). The runner empties it. It must
   * stay open until runnerUnwatch().
   */
  runnerWatch(runner: VcpuRunner, fd: number, tag: number): void;
  runnerUnwatch(runner: VcpuRunner, fd: number): void;
  /**
   * Kicks, joins the threads, unmaps; nothing may be called with the runner afterwards. false: a thread is stuck in KVM_RUN;
   * it is left behind with its mapping, all else is freed.
   */
  runnerDestroy(runner: VcpuRunner, limitMs: number): boolean;
  /**
   * An eventfd that becomes readable when an inline vCPU did not come out of KVM_RUN within `ms` of a kick: for the watch()
   * of another thread, as this one hangs then. The caller closes it. Sets the watchdog's time for threads too (5000 ms
   * before).
   */
  runnerWatchdog(runner: VcpuRunner, ms: number): number;
  /** _exit(code): for a process one of whose threads will never return. */
  exitNow(code: number): never;
}

/** The package's root, seen from src/engines/host and from dist/engines/host alike. */
const ROOT = dirname(fileURLToPath(new URL('../../../package.json', import.meta.url)));

let state: AddonState | undefined;
let failure: VmError | undefined;

/**
 * Finds and loads the addon, once per thread.
 * @throws VmError ERR_ENGINE_UNAVAILABLE when $TSVISOR_ADDON names a file that is not it, and in no other case.
 */
export function loadAddon(): AddonState {
  if (failure !== undefined) throw failure;
  if (state !== undefined) return state;
  try {
    const { version } = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8')) as { version: string };
    state = findAddon(ROOT, version, thisHost());
    return state;
  } catch (e) {
    if (e instanceof VmError) failure = e;
    throw e;
  }
}

function thisHost(): AddonHost {
  const require = createRequire(import.meta.url);
  return {
    platform: process.platform,
    arch: process.arch,
    explicit: process.env.TSVISOR_ADDON,
    libc,
    list: folder => (existsSync(folder) ? readdirSync(folder) : []),
    open: path => (existsSync(path) ? (offset, length) => readAt(path, offset, length) : undefined),
    load: path => require(resolve(path)),
    buildNote,
  };
}

/** Up to `length` bytes of a file at `offset`. */
function readAt(path: string, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const fd = openSync(path, 'r');
  try {
    return bytes.subarray(0, readSync(fd, bytes, 0, length, offset));
  } finally {
    closeSync(fd);
  }
}

/** The C library of this process: by its executable, or where that is static or cannot be read, by Node's report. */
function libc(): Libc | undefined {
  try {
    const known = libcOf((offset, length) => readAt(process.execPath, offset, length));
    if (known !== undefined) return known;
  } catch {
    // Not readable: the report knows as well, it only takes longer to make (it asks the network for its names).
  }
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
}

/** What scripts/build-addon.mjs left about the last attempt. */
function buildNote(): { reason: string; fix: string | undefined } | undefined {
  try {
    const status: unknown = JSON.parse(readFileSync(`${ROOT}/build/addon-status.json`, 'utf8'));
    if (typeof status !== 'object' || status === null || !('reason' in status)) return undefined;
    // Success that left no file: somebody removed it since.
    if ('built' in status && status.built === true) return undefined;
    return { reason: String(status.reason), fix: 'fix' in status ? String(status.fix) : undefined };
  } catch {
    // No attempt, or no record of it.
    return undefined;
  }
}
