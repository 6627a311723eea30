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

/** The addon's functions as they are (native/fd.cc, native/watch.cc). Use them through host.ts, which names the errors. */
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

/** What scripts/install.mjs left about its attempt. */
function buildNote(): string | undefined {
  try {
    const status: unknown = JSON.parse(readFileSync(`${ROOT}/build/addon-status.json`, 'utf8'));
    return typeof status === 'object' && status !== null && 'reason' in status ? String(status.reason) : undefined;
  } catch {
    // No attempt, or no record of it.
    return undefined;
  }
}
