import { VmError } from '../util/errors.ts';
import { BLOCK_PAGES, type PageIndex } from './page-index.ts';
import type { PinLimits } from './pin-types.ts';
import type { Region } from './types.ts';

/** Dirty logs that can be active at the same time. */
export const MAX_LOGS = 4;
/** Threads that can be attached at the same time, the first included. */
export const MAX_THREADS = 64;

/** Words of {@link SharedState.header}. Those that are written often have cache lines of their own. */
export const HEADER = {
  /** Whether anything has ever been pinned (PIN-9). */
  everPinned: 0,
  /** Bit n: dirty log n is active. */
  activeLogs: 1,
  /** Bit n: dirty log n is taken; before it is active, and until it no longer is. */
  claimedLogs: 2,
  /** Grows when a discard ends. Threads wait for it. */
  epoch: 16,
  /** Pages in long-term pins. */
  longPages: 32,
  /** Of these, those of passed-through devices. */
  memlockPages: 48,
  /** One word a thread: 1 while it is attached. */
  threads: 64,
} as const;
const HEADER_WORDS = HEADER.threads + MAX_THREADS;

/** Counters of a thread, in pages; only that thread writes them. */
export const TOTAL = {
  acquired: 0,
  released: 1,
  discarded: 2,
  queued: 3,
  cancelled: 4,
  skipped: 5,
  revoked: 6,
} as const;
/** Doubles of a thread: a cache line. */
export const TOTALS_STRIDE = 8;

/**
 * Additions to words of the state. They are atomic once the state has been given to another thread; a thread that is alone does
 * without, which is several times faster.
 */
export class Adder {
  #atomic: boolean;

  constructor(atomic: boolean) {
    this.#atomic = atomic;
  }

  /** Another thread is about to get the state. */
  share(): void {
    this.#atomic = true;
  }

  /** Adds and gives the value before, as Atomics.add() does. */
  add(words: Int32Array, at: number, delta: number): number {
    if (this.#atomic) return Atomics.add(words, at, delta);
    const before = words[at]!;
    words[at] = before + delta;
    return before;
  }
}

/** What another thread needs to attach to a table. Goes through postMessage(). */
export interface PinTableState {
  readonly shared: SharedArrayBuffer;
  readonly limits: PinLimits;
  /** The regions as `kind base size`, to be compared. */
  readonly regions: readonly string[];
}

/** The arrays of a table, in one SharedArrayBuffer; untouched parts of it take no memory of the host. */
export interface SharedState {
  readonly buffer: SharedArrayBuffer;
  readonly header: Int32Array;
  /** [0]: the time, ns, as the machine's loop said last. */
  readonly now: Float64Array;
  /** TOTALS_STRIDE doubles a thread. */
  readonly totals: Float64Array;
  /** See PageCounts. */
  readonly counts: Int32Array;
  /** A byte a page; see PageStates. */
  readonly states: Uint8Array;
  /** A word a block; see PageStates. */
  readonly marks: Int32Array;
  /** MAX_LOGS bitmaps, a bit a page. */
  readonly logs: Int32Array;
}

/** Words of counts for so many pages. */
export function countWords(pages: number): number {
  // Four kinds for each page, run of 16 and block of 512, and one word of uses a block.
  return pages * 4 + (pages / 16) * 4 + (pages / BLOCK_PAGES) * 5;
}

/**
 * Lays the arrays out, in a new buffer or in that of another thread. For 3 GiB of RAM they take 15 MiB.
 * @throws VmError ERR_INTERNAL when the buffer is another memory's.
 */
export function sharedState(index: PageIndex, buffer?: SharedArrayBuffer): SharedState {
  const blocks = index.pages / BLOCK_PAGES;
  let bytes = 0;
  const place = (size: number) => {
    const at = bytes;
    bytes += Math.ceil(size / 64) * 64;
    return at;
  };
  const header = place(HEADER_WORDS * 4);
  const now = place(8);
  const totals = place(MAX_THREADS * TOTALS_STRIDE * 8);
  const counts = place(countWords(index.pages) * 4);
  const states = place(index.pages);
  const marks = place(blocks * 4);
  const logs = place((index.pages / 32) * 4 * MAX_LOGS);
  const b = buffer ?? new SharedArrayBuffer(bytes);
  if (b.byteLength !== bytes) {
    throw new VmError('ERR_INTERNAL', `pins: ${b.byteLength} bytes of shared state where ${bytes} are wanted`);
  }
  return {
    buffer: b,
    header: new Int32Array(b, header, HEADER_WORDS),
    now: new Float64Array(b, now, 1),
    totals: new Float64Array(b, totals, MAX_THREADS * TOTALS_STRIDE),
    counts: new Int32Array(b, counts, countWords(index.pages)),
    states: new Uint8Array(b, states, index.pages),
    marks: new Int32Array(b, marks, blocks),
    logs: new Int32Array(b, logs, (index.pages / 32) * MAX_LOGS),
  };
}

/** Regions as {@link PinTableState} names them. */
export function describeRegions(regions: readonly Region[]): string[] {
  return [...regions].sort((a, b) => a.base - b.base).map(r => `${r.kind} ${r.base} ${r.size}`);
}
