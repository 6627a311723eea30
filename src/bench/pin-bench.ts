import { Worker } from 'node:worker_threads';
import { createGuestMemory } from '../memory/guest-memory.ts';
import { PinTable } from '../memory/pin-table.ts';
import { PIN_PAGE } from '../memory/pin-types.ts';
import type { PinTableState } from '../memory/shared-state.ts';
import type { GuestMemory } from '../memory/types.ts';
import { VmError } from '../util/errors.ts';
import type { PassOptions, PassTimes, PinBenchMode } from './pin-passes.ts';

/** What {@link benchPins} does. */
export interface PinBenchOptions {
  /** One after the other. */
  readonly modes: readonly PinBenchMode[];
  /** Memory that is gone through, MiB; all threads go through the same. */
  readonly memoryMiB: number;
  readonly pagesPerCall: number;
  /** Passes over the memory, each measured by itself. */
  readonly repeats: number;
  /** With FOLL_WRITE. */
  readonly write: boolean;
  readonly threads: number;
}

/** The times of one pass of one thread. */
export interface PinBenchRow extends PassTimes {
  readonly mode: PinBenchMode;
  /** From 0. */
  readonly thread: number;
  /** From 0. */
  readonly repeat: number;
  readonly pages: number;
}

/** What a thread of the benchmark is started with (`workerData`). */
export interface PinBenchWorkerData {
  readonly bytes: SharedArrayBuffer;
  /** Of the table that it attaches to; undefined: it is alone, and its table is not shared. */
  readonly state: PinTableState | undefined;
  readonly pass: PassOptions;
  readonly repeats: number;
  /** [0] becomes 1 when all threads are to begin. */
  readonly go: Int32Array;
}

/** From a thread: it has warmed up, or it is done. */
export type PinBenchMessage = { readonly ready: true } | { readonly times: readonly PassTimes[] };

/** Memory of the benchmark, at address 0. */
export function benchMemory(bytes: SharedArrayBuffer): GuestMemory {
  return createGuestMemory([{ base: 0, size: bytes.byteLength, kind: 'ram', bytes: new Uint8Array(bytes) }]);
}

/**
 * Measures a table of pins on memory of its own, without a guest: the counterpart of the kernel's gup_test. The threads of one mode
 * begin at the same time and share the table's counts, as threads of a process share its pages. A row for each pass, by mode,
 * thread and repeat.
 *
 * @throws VmError ERR_MEMORY_TOO_LARGE when the host has no such memory, ERR_INTERNAL when a check of a BASIC mode fails.
 */
export async function benchPins(o: PinBenchOptions): Promise<PinBenchRow[]> {
  const bytes = allocate(o.memoryMiB);
  const table = new PinTable({ memory: benchMemory(bytes) });
  // Threads that share a table pay for atomic additions; a machine's one thread does not.
  const state = o.threads === 1 ? undefined : table.share();
  const pages = bytes.byteLength / PIN_PAGE;
  const rows: PinBenchRow[] = [];
  for (const mode of o.modes) {
    const pass = { mode, pages, pagesPerCall: o.pagesPerCall, write: o.write };
    const times = await runThreads({ bytes, state, pass, repeats: o.repeats, go: freshWord() }, o.threads);
    for (const [thread, passes] of times.entries()) {
      rows.push(...passes.map((t, repeat) => ({ mode, thread, repeat, pages, ...t })));
    }
    const { pinAcquired, pinReleased } = table.stats();
    if (pinAcquired !== pinReleased || table.maybePinned(0, bytes.byteLength)) {
      throw new VmError('ERR_INTERNAL', `bench pin: ${pinAcquired} pages were pinned and ${pinReleased} released`);
    }
  }
  return rows;
}

function allocate(memoryMiB: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(memoryMiB * 2 ** 20);
  } catch (e) {
    throw new VmError('ERR_MEMORY_TOO_LARGE', `bench pin: the host has no ${memoryMiB} MiB`, {
      hint: 'give less with -m',
      cause: e,
    });
  }
}

function freshWord(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4));
}

/** The times of each thread. All of them are gone when it returns or throws. */
async function runThreads(workerData: PinBenchWorkerData, threads: number): Promise<(readonly PassTimes[])[]> {
  const workers = Array.from({ length: threads }, () => {
    // No execArgv: loaders and inspectors are the main thread's.
    return new Worker(new URL('./pin-bench-worker.js', import.meta.url), { workerData, execArgv: [] });
  });
  let waiting = threads;
  const begin = () => {
    if (--waiting > 0) return;
    Atomics.store(workerData.go, 0, 1);
    Atomics.notify(workerData.go, 0);
  };
  try {
    return await Promise.all(workers.map(w => timesOf(w, begin)));
  } finally {
    await Promise.all(workers.map(w => w.terminate()));
  }
}

function timesOf(worker: Worker, ready: () => void): Promise<readonly PassTimes[]> {
  return new Promise((resolve, reject) => {
    worker.on('message', (m: PinBenchMessage) => {
      if ('ready' in m) ready();
      else resolve(m.times);
    });
    worker.on('error', reject);
    worker.on('exit', () => reject(new VmError('ERR_INTERNAL', 'bench pin: a thread ended without a word')));
  });
}
