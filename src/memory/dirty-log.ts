import { VmError } from '../util/errors.ts';
import { hex } from '../util/hex.ts';
import type { PageCounts } from './page-counts.ts';
import { indexOf, type PageIndex } from './page-index.ts';
import { type DirtySink, type DirtySource, PIN_PAGE } from './pin-types.ts';
import { HEADER, MAX_LOGS, type SharedState } from './shared-state.ts';
import type { Gpa } from './types.ts';

/** Which pages have been written since it was last collected. */
export interface DirtyLog extends Disposable {
  /**
   * The pages of [base, base + length) that are dirty, as bits of `bitmap`, the lowest first; bit 0 is the page at `base`. They begin
   * clean again, but for those that are pinned for writing: they are dirty every time, and once more after their unpin (PIN-6).
   * No write is lost: one that happens meanwhile is in this collection or in the next.
   *
   * @param base a multiple of the page size, as `length` is; the range lies in adjacent regions.
   * @param bitmap overwritten; at least a bit a page.
   * @returns how many pages are dirty.
   * @throws VmError ERR_PIN_INVALID for a range or bitmap that does not do, ERR_STATE after stop().
   */
  collect(base: Gpa, length: number, bitmap: Uint32Array): number;
  /** Ends it. Once is enough. */
  stop(): void;
}

/** The dirty logs of a memory. Several may be active at the same time, each with its own idea of what is clean. */
export class DirtyLogs implements DirtySink {
  readonly #shared: SharedState;
  readonly #counts: PageCounts;
  readonly #index: PageIndex;
  readonly #words: number;
  readonly #sources = new Set<DirtySource>();
  /** Logs that this thread has started. */
  #started = 0;

  constructor(shared: SharedState, counts: PageCounts, index: PageIndex) {
    this.#shared = shared;
    this.#counts = counts;
    this.#index = index;
    this.#words = index.pages / 32;
  }

  /** Bit n is set when log n is active; writers mark in each of them. */
  get active(): number {
    // No more than a look at memory: that of an atomic load would cost as much as the pin. What it orders, counting does.
    return this.#shared.header[HEADER.activeLogs]!;
  }

  /**
   * Starts a log; all is clean but what is pinned for writing. Collect it on this thread, on which the sources are.
   * @throws VmError ERR_STATE when MAX_LOGS are active.
   */
  start(): DirtyLog {
    const slot = this.#claim();
    if (this.#started++ === 0) for (const s of this.#sources) s.start();
    return new Log(slot, this.#shared.logs.subarray(slot * this.#words, (slot + 1) * this.#words), this);
  }

  /** Adds a writer without pins, as vCPUs are; disposing the result takes it away. */
  addSource(source: DirtySource): Disposable {
    this.#sources.add(source);
    if (this.#started > 0) source.start();
    return {
      [Symbol.dispose]: () => {
        if (this.#sources.delete(source) && this.#started > 0) source.stop();
      },
    };
  }

  markDirty(base: Gpa, length: number): void {
    if (this.active === 0 || !(length > 0)) return;
    this.#index.eachTouched(base, length, (first, end) => this.markPages(first, end));
  }

  /** Marks pages [first, end) in every active log. */
  markPages(first: number, end: number): void {
    const { logs } = this.#shared;
    for (let active = this.active, at = 0; active !== 0; active >>>= 1, at += this.#words) {
      if ((active & 1) === 0) continue;
      for (let p = first; p < end; ) {
        const stop = Math.min(end, (p | 31) + 1);
        Atomics.or(logs, at + (p >>> 5), bits(p & 31, stop - p));
        p = stop;
      }
    }
  }

  /** See {@link DirtyLog.collect}; the range is known to be good. */
  collect(log: Int32Array, first: number, pages: number, bitmap: Uint32Array): number {
    for (const s of this.#sources) s.collectCpu(this);
    bitmap.fill(0, 0, Math.ceil(pages / 32));
    let dirty = 0;
    const end = first + pages;
    for (let w = first >>> 5; w * 32 < end; w++) {
      const from = Math.max(first, w * 32);
      const mask = bits(from & 31, Math.min(end, w * 32 + 32) - from);
      // In this order: who unpins marks first and then counts down, so a page that is no longer counted has its mark.
      const pinned = this.#counts.writeBits(w);
      const marked = Atomics.load(log, w) === 0 ? 0 : Atomics.and(log, w, ~mask);
      const found = (pinned | marked) & mask;
      if (found === 0) continue;
      dirty += popCount(found);
      place(found, w * 32 - first, bitmap);
    }
    return dirty;
  }

  /** Index of a range's first page. @throws VmError ERR_PIN_INVALID. */
  range(base: Gpa, length: number): number {
    const span = base % PIN_PAGE === 0 && length % PIN_PAGE === 0 && length > 0 && this.#index.find(base, length);
    if (span) return indexOf(span, base);
    throw badRange(`${hex(base)} (${length} bytes) are not whole pages of adjacent memory`);
  }

  /** Ends a log. */
  stopped(slot: number): void {
    const { header } = this.#shared;
    Atomics.and(header, HEADER.activeLogs, ~(1 << slot));
    Atomics.and(header, HEADER.claimedLogs, ~(1 << slot));
    if (--this.#started === 0) for (const s of this.#sources) s.stop();
  }

  /** Takes a free bitmap. It is cleared before it is active, and only by the thread that has claimed it. */
  #claim(): number {
    const { header, logs } = this.#shared;
    for (let slot = 0; slot < MAX_LOGS; slot++) {
      const bit = 1 << slot;
      if ((Atomics.or(header, HEADER.claimedLogs, bit) & bit) !== 0) continue;
      logs.fill(0, slot * this.#words, (slot + 1) * this.#words);
      Atomics.or(header, HEADER.activeLogs, bit);
      return slot;
    }
    throw new VmError('ERR_STATE', `${MAX_LOGS} dirty logs are active, and there can be no more`, {
      hint: 'stop one: a migration, snapshot or fork that is under way',
    });
  }
}

class Log implements DirtyLog {
  readonly #slot: number;
  readonly #bits: Int32Array;
  readonly #logs: DirtyLogs;
  #stopped = false;

  constructor(slot: number, bits: Int32Array, logs: DirtyLogs) {
    this.#slot = slot;
    this.#bits = bits;
    this.#logs = logs;
  }

  collect(base: Gpa, length: number, bitmap: Uint32Array): number {
    if (this.#stopped) throw new VmError('ERR_STATE', 'a dirty log that was stopped cannot be collected');
    const first = this.#logs.range(base, length);
    const pages = length / PIN_PAGE;
    if (bitmap.length * 32 < pages) throw badRange(`${bitmap.length * 32} bits for ${pages} pages`);
    return this.#logs.collect(this.#bits, first, pages, bitmap);
  }

  stop(): void {
    if (!this.#stopped) this.#logs.stopped(this.#slot);
    this.#stopped = true;
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

/**
 * Calls `visit` with each longest range of dirty pages of a bitmap that DirtyLog.collect() has filled.
 * @param base address of bit 0.
 * @param pageSize bytes of a page.
 */
export function eachDirtyRange(
  bitmap: Uint32Array,
  base: Gpa,
  pages: number,
  visit: (base: Gpa, length: number) => void,
  pageSize = PIN_PAGE,
): void {
  const dirty = (p: number) => p < pages && (bitmap[p >>> 5]! & (1 << (p & 31))) !== 0;
  for (let p = 0; p < pages; ) {
    if (bitmap[p >>> 5] === 0) {
      p = (p | 31) + 1;
      continue;
    }
    const from = p;
    while (dirty(p)) p++;
    if (p > from) visit(base + from * pageSize, (p - from) * pageSize);
    else p++;
  }
}

/** `count` bits, 1 to 32, from bit `from` on. */
function bits(from: number, count: number): number {
  return (count === 32 ? -1 : (1 << count) - 1) << from;
}

/** ORs a word into a bitmap at a bit that need not begin a word, and may be negative. */
function place(word: number, bit: number, bitmap: Uint32Array): void {
  const shift = bit & 31;
  const at = bit >> 5; // -1: the bits of that word are masked
  if (at >= 0) bitmap[at]! |= word << shift;
  if (shift !== 0 && at + 1 < bitmap.length) bitmap[at + 1]! |= word >>> (32 - shift);
}

function popCount(word: number): number {
  let n = 0;
  for (let w = word; w !== 0; w &= w - 1) n++;
  return n;
}

function badRange(why: string): VmError {
  return new VmError('ERR_PIN_INVALID', `dirty log: ${why}`, { details: { errno: 'EINVAL' } });
}
