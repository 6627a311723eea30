import { VmError } from '../util/errors.ts';
import type { PageCounts } from './page-counts.ts';
import type { PageState } from './pin-types.ts';
import { HEADER, type SharedState } from './shared-state.ts';

// A page's byte: its state, and whether new pins are refused.
export const PRESENT = 0;
export const DISCARDED = 1;
export const QUEUED = 2;
export const DISCARDING = 3;
export const UNPLUGGED = 4;
export const UNPLUGGING = 5;
const STATE = 0x7f;
export const BLOCKED = 0x80;

const NAMES: readonly PageState[] = ['present', 'discarded', 'queued', 'discarding', 'unplugged', 'unplugging'];

/** How long a pin waits for a discard on another thread to end, at most: rounds, and ms of each. */
const WAIT_ROUNDS = 1000;
const WAIT_MS = 10;

/**
 * What the memory of each page is doing, next to how often it is pinned. A byte a page, changed by compare-and-exchange, so that a
 * page in DISCARDING or UNPLUGGING belongs to the thread that put it there.
 *
 * Pins look at it only in blocks that are special (see PageCounts): while an operation is inside, and as long as a page of the block
 * is queued, unplugged or blocked. The latter are counted here, as marks.
 */
export class PageStates {
  readonly #bytes: Uint8Array;
  readonly #marks: Int32Array;
  readonly #header: Int32Array;
  readonly #counts: PageCounts;

  constructor(shared: SharedState, counts: PageCounts) {
    this.#bytes = shared.states;
    this.#marks = shared.marks;
    this.#header = shared.header;
    this.#counts = counts;
  }

  /** The state without BLOCKED. */
  get(page: number): number {
    return Atomics.load(this.#bytes, page) & STATE;
  }

  name(page: number): PageState {
    return NAMES[this.get(page)]!;
  }

  /** Changes the state if it is `from`; false if it is not. Keeps BLOCKED. */
  change(page: number, from: number, to: number): boolean {
    for (;;) {
      const was = Atomics.load(this.#bytes, page);
      if ((was & STATE) !== from) return false;
      if (Atomics.compareExchange(this.#bytes, page, was, (was & BLOCKED) | to) === was) return true;
    }
  }

  blocked(page: number): boolean {
    return (Atomics.load(this.#bytes, page) & BLOCKED) !== 0;
  }

  /** Sets BLOCKED; false if it was set. */
  block(page: number): boolean {
    return (Atomics.or(this.#bytes, page, BLOCKED) & BLOCKED) === 0;
  }

  unblock(page: number): void {
    Atomics.and(this.#bytes, page, STATE);
  }

  /**
   * Counts `delta` more pages of a block that stay queued, unplugged or blocked. Only between enter() and leave(): the caller's own
   * reason covers the moment in which the first of two markers has counted and not yet entered, and the second relies on it.
   */
  mark(block: number, delta: number): void {
    if (delta === 0) return;
    const before = Atomics.add(this.#marks, block, delta);
    if (before === 0) this.#counts.enter(block);
    if (before + delta === 0) this.#counts.leave(block);
  }

  /** Tells those who wait that pages have left DISCARDING or UNPLUGGING. */
  settled(): void {
    Atomics.add(this.#header, HEADER.epoch, 1);
    Atomics.notify(this.#header, HEADER.epoch);
  }

  /**
   * Waits until no thread is discarding or unplugging the page. Blocks the thread; a discard is a system call or so.
   * @throws VmError ERR_INTERNAL when it does not end, since its thread has died inside.
   */
  wait(page: number): void {
    for (let round = 0; round < WAIT_ROUNDS; round++) {
      const epoch = Atomics.load(this.#header, HEADER.epoch);
      const state = this.get(page);
      if (state !== DISCARDING && state !== UNPLUGGING) return;
      Atomics.wait(this.#header, HEADER.epoch, epoch, WAIT_MS);
    }
    throw new VmError('ERR_INTERNAL', `a page has been ${this.name(page)} for ${(WAIT_ROUNDS * WAIT_MS) / 1000} s`);
  }
}
