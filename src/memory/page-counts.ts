import { BLOCK_PAGES } from './page-index.ts';
import type { Adder } from './shared-state.ts';

/** The four counts of a page: bit 0 for writing, bit 1 for long-term. */
export type PinKind = 0 | 1 | 2 | 3;
export const KIND_WRITE = 1;
export const KIND_LONG = 2;

const RUN_PAGES = 16;

// A block's word of uses: how many pins touch it, and above that how many reasons there are to look at its pages' states.
const USES = 0x3f_ffff;
/** Pins that touch one block at a time, at most; the rest of the field is for what threads add before they notice. */
const USES_LIMIT = 0x3f_0000;
const SPECIAL_ONE = 0x40_0000;
/** In the result of {@link PageCounts.add}: pages of the range may not be present. */
export const SPECIAL = ~USES;
/** In the result of {@link PageCounts.add}: a count was at its limit. What was added must be taken back. */
export const OVERFLOW = 1;

/** Counts never come near 2^31, even if every thread adds one too many. */
export const MAX_COUNT = 2 ** 30;

/**
 * How often each page is pinned, exactly, without touching every page of a large range: a range is taken apart into whole blocks (512
 * pages, 2 MiB), whole runs (16 pages, 64 KiB) and single pages, and a page's count is the sum of its own, its run's and its block's.
 * For each of them there are four counts, one for each {@link PinKind}. All threads change them by atomic additions.
 *
 * A block's word of uses does two things in one atomic addition: it tells a discard that nobody is in the block, and it tells a pin or
 * unpin that it must look at the pages' states. A discard first marks its pages, then enters the block; a pin first counts its pages,
 * then the use. Whoever comes second on that word sees what the first has done, so a pin and a discard never both win.
 */
export class PageCounts {
  readonly #words: Int32Array;
  readonly #adder: Adder;
  readonly #limit: number;
  // Where each level begins in #words; pages begin at 0.
  readonly #runs: number;
  readonly #blocks: number;
  readonly #uses: number;

  /** @param limit the most that each count may reach, up to MAX_COUNT. */
  constructor(words: Int32Array, pages: number, adder: Adder, limit = MAX_COUNT) {
    this.#words = words;
    this.#adder = adder;
    this.#limit = Math.min(limit, MAX_COUNT);
    this.#runs = pages * 4;
    this.#blocks = this.#runs + (pages / RUN_PAGES) * 4;
    this.#uses = this.#blocks + (pages / BLOCK_PAGES) * 4;
  }

  /** Counts a pin of pages [first, end). 0, or SPECIAL bits and OVERFLOW; a caller that refuses then calls remove(). */
  add(first: number, end: number, kind: PinKind): number {
    return this.#change(first, end, kind, 1);
  }

  /** The opposite. Other than 0: pages of the range may have been waiting for it. */
  remove(first: number, end: number, kind: PinKind): number {
    return this.#change(first, end, kind, -1) & SPECIAL;
  }

  #change(first: number, end: number, kind: PinKind, delta: 1 | -1): number {
    const words = this.#words;
    const adder = this.#adder;
    const limit = this.#limit;
    // Most requests of devices are for one page.
    if (end - first === 1) {
      const over = adder.add(words, first * 4 + kind, delta) >= limit ? OVERFLOW : 0;
      const uses = adder.add(words, this.#uses + (first >>> 9), delta);
      return over | ((uses & USES) >= USES_LIMIT ? OVERFLOW : 0) | (uses & SPECIAL);
    }
    let seen = 0;
    for (let p = first; p < end; ) {
      const block = p >>> 9;
      const stop = Math.min(end, (block + 1) << 9);
      if (stop - p === BLOCK_PAGES) {
        if (adder.add(words, this.#blocks + block * 4 + kind, delta) >= limit) seen |= OVERFLOW;
        p = stop;
      }
      while (p < stop) {
        if ((p & (RUN_PAGES - 1)) === 0 && stop - p >= RUN_PAGES) {
          if (adder.add(words, this.#runs + (p >>> 4) * 4 + kind, delta) >= limit) seen |= OVERFLOW;
          p += RUN_PAGES;
        } else {
          if (adder.add(words, p * 4 + kind, delta) >= limit) seen |= OVERFLOW;
          p++;
        }
      }
      // Last, see above.
      const uses = adder.add(words, this.#uses + block, delta);
      if ((uses & USES) >= USES_LIMIT) seen |= OVERFLOW;
      seen |= uses & SPECIAL;
    }
    return seen;
  }

  /**
   * Gives pins and unpins of a block one more reason to look at states, until leave(). The states must have been set before.
   * @returns how many pins touch the block; later ones look.
   */
  enter(block: number): number {
    return Atomics.add(this.#words, this.#uses + block, SPECIAL_ONE) & USES;
  }

  leave(block: number): void {
    Atomics.sub(this.#words, this.#uses + block, SPECIAL_ONE);
  }

  /** Whether there is a reason to look at the states of a block's pages. */
  special(block: number): boolean {
    return (Atomics.load(this.#words, this.#uses + block) & SPECIAL) !== 0;
  }

  /** Pins of one kind of a page. */
  count(page: number, kind: PinKind): number {
    const words = this.#words;
    return (
      Atomics.load(words, page * 4 + kind) +
      Atomics.load(words, this.#runs + (page >>> 4) * 4 + kind) +
      Atomics.load(words, this.#blocks + (page >>> 9) * 4 + kind)
    );
  }

  short(page: number): number {
    return this.count(page, 0) + this.count(page, KIND_WRITE);
  }

  long(page: number): number {
    return this.count(page, KIND_LONG) + this.count(page, (KIND_LONG | KIND_WRITE) as PinKind);
  }

  write(page: number): number {
    return this.count(page, KIND_WRITE) + this.count(page, (KIND_LONG | KIND_WRITE) as PinKind);
  }

  /** First pinned page of [first, end), or -1; passes over unused blocks. */
  firstPinned(first: number, end: number): number {
    return this.#find(first, end, p => this.short(p) !== 0 || this.long(p) !== 0);
  }

  /** First page of [first, end) with a short pin, or -1. */
  firstShort(first: number, end: number): number {
    return this.#find(first, end, p => this.short(p) !== 0);
  }

  #find(first: number, end: number, test: (page: number) => boolean): number {
    for (let p = first; p < end; ) {
      const stop = Math.min(end, ((p >>> 9) + 1) << 9);
      if (this.#used(p >>> 9)) for (; p < stop; p++) if (test(p)) return p;
      p = stop;
    }
    return -1;
  }

  /** The pages 32 * word and the 31 that follow, as bits: pinned for writing. */
  writeBits(word: number): number {
    const page = word * 32;
    if (!this.#used(page >>> 9)) return 0;
    const words = this.#words;
    const both = (at: number) => Atomics.load(words, at + 1) !== 0 || Atomics.load(words, at + 3) !== 0;
    if (both(this.#blocks + (page >>> 9) * 4)) return -1;
    let bits = 0;
    for (let run = 0; run < 2; run++) {
      if (both(this.#runs + ((page >>> 4) + run) * 4)) bits |= 0xffff << (RUN_PAGES * run);
    }
    for (let i = 0; i < 32; i++) if (both((page + i) * 4)) bits |= 1 << i;
    return bits;
  }

  #used(block: number): boolean {
    return (Atomics.load(this.#words, this.#uses + block) & USES) !== 0;
  }
}
