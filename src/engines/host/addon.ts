import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

declare const address: unique symbol;
/** A host address that only the addon can read or make; it keeps the memory that it points into alive. */
export type HostAddress = { readonly [address]: never };

/** What madvise() may say of memory; see madvise(2). */
export type MemoryAdvice = 'MADV_DONTNEED' | 'MADV_REMOVE' | 'MADV_DONTFORK';

declare const watch: unique symbol;
/** A file descriptor that the thread's event loop waits for. */
export type FdWatch = { readonly [watch]: never };

/** The addon's functions as they are (native/fd.cc, native/watch.cc). Use them through host.ts, which names the errors. */
export interface Addon {
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
  addressOf(view: ArrayBufferView): HostAddress;
  storeAddress(into: ArrayBufferView, offset: number, address: HostAddress): void;
  releaseAddress(address: HostAddress): void;
  prlimit(resource: number, soft?: bigint, hard?: bigint): [soft: bigint, hard: bigint];
  /** Calls back with 0 whenever `fd` is readable, and once with an errno when it can no longer be waited for. */
  watch(fd: number, callback: (errno: number) => void): FdWatch;
  setWatching(watch: FdWatch, wanted: boolean): void;
  /** Ends a watch; before its descriptor is closed. */
  unwatch(watch: FdWatch): void;
}

/** Whether there is an addon, and where not, why and what to do about it. */
export type AddonState =
  | { readonly addon: Addon; readonly reason: undefined; readonly fix: undefined }
  | { readonly addon: undefined; readonly reason: string; readonly fix: string | undefined };

/** The package's root, seen from src/engines/host and from dist/engines/host alike. */
const ROOT = new URL('../../../', import.meta.url);

let state: AddonState | undefined;

/** Loads the addon once per thread. Never throws. */
export function loadAddon(): AddonState {
  state ??= load();
  return state;
}

function load(): AddonState {
  if (process.platform !== 'linux') {
    return { addon: undefined, reason: `the addon is for Linux, this is ${process.platform}`, fix: undefined };
  }
  try {
    const path = fileURLToPath(new URL('build/Release/tsvisor.node', ROOT));
    return { addon: createRequire(import.meta.url)(path) as Addon, reason: undefined, fix: undefined };
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    if (code === 'MODULE_NOT_FOUND') return whyNotBuilt();
    return {
      addon: undefined,
      reason: `the addon does not load: ${message.split('\n')[0]}`,
      fix: 'build it for this Node: npm rebuild',
    };
  }
}

/** What scripts/install.mjs left about its attempt. */
function whyNotBuilt(): AddonState {
  let reason = 'it was never built';
  try {
    const status: unknown = JSON.parse(readFileSync(new URL('build/addon-status.json', ROOT), 'utf8'));
    if (typeof status === 'object' && status !== null && 'reason' in status) reason = String(status.reason);
  } catch {
    // No attempt, or no record of it.
  }
  return {
    addon: undefined,
    reason: `the addon is not there: ${reason}`,
    fix: "install a C++ compiler, make, python3 and Node's headers, then: npm rebuild",
  };
}
