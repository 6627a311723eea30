import type { PageCounts } from './page-counts.ts';
import { BLOCK_PAGES, indexOf, type PageIndex } from './page-index.ts';
import { DISCARDED, DISCARDING, type PageStates, PRESENT, QUEUED, UNPLUGGED, UNPLUGGING } from './page-states.ts';
import { invalid } from './pin-errors.ts';
import { type DiscardResult, PIN_PAGE, type PinHandle, type PlugListener } from './pin-types.ts';
import type { RevocablePins } from './revocable-pins.ts';
import { TOTAL } from './shared-state.ts';
import type { Gpa } from './types.ts';

/** What a discard needs of the table of pins. */
export interface DiscardHost {
  readonly index: PageIndex;
  readonly counts: PageCounts;
  readonly states: PageStates;
  /** Gives whole pages of RAM back to the host; they read as zeros afterwards. Pins nothing. */
  discardBytes(base: Gpa, length: number): void;
  /** This thread's pins that can be asked to go. */
  readonly revocable: RevocablePins;
  /** Adds to this thread's totals. */
  total(which: number, pages: number): void;
  /** Names of those who pin pages of [first, end), by pins that `counts` holds for. */
  owners(first: number, end: number, counts: (handle: PinHandle) => boolean): string[];
}

/** Whether an unplug was done, and who was in the way: "busy" to a guest (virtio-mem), which tries again. */
export interface UnplugResult {
  readonly done: boolean;
  readonly owners: readonly string[];
}

/** Whether a plug was done, and the listener's reason if not. */
export interface PlugResult {
  readonly done: boolean;
  readonly veto: unknown;
}

/**
 * The operations that take memory away, and what they do about pins (specification of pins, table 4.3). Any thread may call them.
 *
 * A page that is to go is claimed first, by its state; then the block is entered, which makes later pins look at states; then counts
 * are read. A pin counts first and looks then. So either the discard sees the pin, or the pin sees the claim and waits for its end.
 */
export class PageDiscards {
  readonly #host: DiscardHost;
  readonly #listeners: PlugListener[] = [];
  /** Which pages of the block that discard() is in it has claimed. */
  readonly #claimed = new Uint8Array(BLOCK_PAGES);
  #operations = 0;

  constructor(host: DiscardHost) {
    this.#host = host;
  }

  /** This thread is inside of an operation: a pin that it makes now must not wait for it. */
  get operating(): boolean {
    return this.#operations > 0;
  }

  /** Adds one who is told of memory that comes and goes; disposing the result ends that. */
  addListener(listener: PlugListener): Disposable {
    this.#listeners.push(listener);
    return {
      [Symbol.dispose]: () => {
        const at = this.#listeners.indexOf(listener);
        if (at >= 0) this.#listeners.splice(at, 1);
      },
    };
  }

  /**
   * Gives the whole pages of RAM in [base, base + length) back to the host, so that the next access finds zeros.
   *
   * - 'balloon': pages in a short pin are queued, until their last unpin or deflate(); long-term ones are left alone and counted, or
   *   their pins revoked if all of them can be.
   * - 'report': the guest has free pages and will use them again without a word. Pinned ones are left alone.
   *
   * @throws what the host's action throws; the pages it was called for are present then.
   */
  discard(base: Gpa, length: number, reason: 'balloon' | 'report'): DiscardResult {
    const result = { discarded: 0, queued: 0, skippedPinned: 0 };
    this.#eachBlock(base, length, (first, end) => {
      if (reason === 'balloon') this.#revokeEach(first, end);
      this.#operating(() => this.#discardPart(first, end, reason === 'balloon', result));
    });
    this.#host.total(TOTAL.discarded, result.discarded);
    this.#host.total(TOTAL.queued, result.queued);
    this.#host.total(TOTAL.skipped, result.skippedPinned);
    return result;
  }

  /** The guest takes the whole pages of the range out of the balloon: queued discards are cancelled. */
  deflate(base: Gpa, length: number): void {
    const { counts, states } = this.#host;
    this.#eachBlock(base, length, (first, end) => {
      counts.enter(first >>> 9);
      let cancelled = 0;
      for (let p = first; p < end; p++) {
        // The last unpin, on another thread, may just begin to discard it: then this looks again when that is over.
        for (let state = states.get(p); state === QUEUED || state === DISCARDING || state === DISCARDED; ) {
          if (state === DISCARDING) states.wait(p);
          else if (states.change(p, state, PRESENT)) {
            if (state === QUEUED) cancelled++;
            break;
          }
          state = states.get(p);
        }
      }
      states.mark(first >>> 9, -cancelled);
      counts.leave(first >>> 9);
      this.#host.total(TOTAL.cancelled, cancelled);
    });
  }

  /** Those of pages [first, end) that are queued and no longer pinned are discarded. The end of every unpin in a special block. */
  released(first: number, end: number): void {
    const { counts, states } = this.#host;
    for (let p = first; p < end; p++) {
      if (states.get(p) !== QUEUED) continue;
      this.#operating(() => {
        counts.enter(p >>> 9);
        try {
          this.#finish(p);
        } finally {
          counts.leave(p >>> 9);
        }
      });
      // A pin that came and went between the look at the counts and the return to QUEUED has found nothing to do.
      if (states.get(p) === QUEUED && counts.firstPinned(p, p + 1) < 0) p--;
    }
  }

  /**
   * Takes memory from the guest: not if any page of it is pinned, but by pins that can be revoked, or are coordinated. The listeners are
   * told, then the memory goes back to the host; afterwards no pin gets it (PIN-8). All of the range or nothing. What was unplugged
   * before may be in it.
   *
   * @param base a multiple of the page size, as `length` is.
   * @throws VmError ERR_PIN_INVALID for a range that is not whole pages of RAM; what a revocation or the host's action throws, after
   *   which the range is plugged in the first case and unplugged in the second.
   */
  unplug(base: Gpa, length: number): UnplugResult {
    const { counts, revocable, states } = this.#host;
    const [first, end] = this.#range(base, length);
    const busy = (page: number): UnplugResult => ({
      done: false,
      owners: this.#host.owners(page, end, h => !revocable.isCoordinated(h, first, end)),
    });
    const short = counts.firstShort(first, end);
    if (short >= 0) return busy(short);
    const claimed = this.#claimAll(first, end);
    for (let b = first >>> 9; b * BLOCK_PAGES < end; b++) counts.enter(b);
    let gone = false;
    try {
      if (claimed < end) return busy(claimed);
      return this.#operating(() => {
        if (revocable.firstStaying(first, end) >= 0) revocable.revoke(first, end, true);
        const pinned = revocable.firstStaying(first, end);
        if (pinned >= 0) return busy(pinned);
        gone = true;
        // In the order of 4.3: out of reach of vCPUs and IOMMUs, then back to the host.
        for (const l of this.#listeners.toReversed()) l.unplug(base, length);
        revocable.checkReleased(first, end);
        this.#host.discardBytes(base, length);
        this.#host.total(TOTAL.discarded, end - first);
        return { done: true, owners: [] };
      });
    } finally {
      for (let p = first; p < claimed; p++) {
        if (states.change(p, UNPLUGGING, gone ? UNPLUGGED : PRESENT) && gone) states.mark(p >>> 9, 1);
      }
      states.settled();
      for (let b = first >>> 9; b * BLOCK_PAGES < end; b++) counts.leave(b);
    }
  }

  /**
   * Gives the guest memory that was unplugged. Listeners are told in the order of their coming, before the guest is; a veto undoes it.
   *
   * @throws VmError ERR_PIN_INVALID for a range that is not whole pages of RAM, or not unplugged.
   */
  plug(base: Gpa, length: number): PlugResult {
    const [first, end] = this.#range(base, length);
    this.#setPlugged(first, end, true);
    const told: PlugListener[] = [];
    try {
      for (const l of this.#listeners) {
        l.plug(base, length);
        told.push(l);
      }
      return { done: true, veto: undefined };
    } catch (veto) {
      for (const l of told.reverse()) l.unplug(base, length);
      this.#setPlugged(first, end, false);
      return { done: false, veto };
    }
  }

  /** Puts pages that never were the guest's out of its reach, before it starts. */
  startUnplugged(base: Gpa, length: number): void {
    const [first, end] = this.#range(base, length);
    this.#setPlugged(first, end, false);
  }

  /** Whether all pages of [first, end) are plugged. */
  plugged(first: number, end: number): boolean {
    const { counts, states } = this.#host;
    for (let p = first; p < end; ) {
      const stop = Math.min(end, ((p >>> 9) + 1) << 9);
      if (counts.special(p >>> 9)) for (; p < stop; p++) if (states.get(p) >= UNPLUGGED) return false;
      p = stop;
    }
    return true;
  }

  /** Discards a page that is queued, unless somebody has pinned it meanwhile, who will come here after. */
  #finish(page: number): void {
    const { counts, index, states } = this.#host;
    if (!states.change(page, QUEUED, DISCARDING)) return;
    const pinned = counts.firstPinned(page, page + 1) >= 0;
    let to = pinned ? QUEUED : PRESENT;
    try {
      if (pinned) return;
      this.#host.discardBytes(index.baseOf(page), PIN_PAGE);
      to = DISCARDED;
      this.#host.total(TOTAL.discarded, 1);
    } finally {
      states.change(page, DISCARDING, to);
      states.settled();
      if (to !== QUEUED) states.mark(page >>> 9, -1);
    }
  }

  /** Page by page: a holder who stays on one does not keep its neighbours from being asked for. */
  #revokeEach(first: number, end: number): void {
    const { counts } = this.#host;
    for (let p = counts.firstPinned(first, end); p >= 0; p = counts.firstPinned(p + 1, end)) {
      if (counts.long(p) !== 0) this.#host.revocable.revoke(p, p + 1, false);
    }
  }

  /** Pages [first, end) of one block. */
  #discardPart(
    first: number,
    end: number,
    balloon: boolean,
    result: { discarded: number; queued: number; skippedPinned: number },
  ): void {
    const { counts, index, states } = this.#host;
    const block = first >>> 9;
    const claimed = this.#claimed.fill(0);
    for (let p = first; p < end; p++) {
      if (states.get(p) === DISCARDING) states.wait(p);
      // What is unplugged is none of the guest's; what is queued stays so.
      if (states.change(p, PRESENT, DISCARDING) || states.change(p, DISCARDED, DISCARDING)) claimed[p & 511] = 1;
    }
    counts.enter(block);
    let done = first;
    try {
      for (let p = first; p < end; ) {
        if (claimed[p & 511] === 0) {
          done = ++p;
          continue;
        }
        const pinned = counts.firstPinned(p, p + 1) >= 0;
        if (pinned) {
          const queue = balloon && counts.long(p) === 0;
          if (queue) states.mark(block, 1);
          states.change(p, DISCARDING, queue ? QUEUED : PRESENT);
          if (queue) result.queued++;
          else result.skippedPinned++;
          done = ++p;
          continue;
        }
        let stop = p + 1;
        while (stop < end && claimed[stop & 511] === 1 && counts.firstPinned(stop, stop + 1) < 0) stop++;
        this.#host.discardBytes(index.baseOf(p), (stop - p) * PIN_PAGE);
        // Reported pages are the guest's to use again: only the balloon keeps them.
        for (let q = p; q < stop; q++) states.change(q, DISCARDING, balloon ? DISCARDED : PRESENT);
        result.discarded += stop - p;
        done = p = stop;
      }
    } finally {
      for (let p = done; p < end; p++) if (claimed[p & 511] === 1) states.change(p, DISCARDING, PRESENT);
      states.settled();
      counts.leave(block);
    }
    // The last unpin of a page may have come before it was queued.
    if (result.queued > 0)
      for (let p = first; p < end; p++) if (counts.firstPinned(p, p + 1) < 0) this.released(p, p + 1);
  }

  /** Claims pages for an unplug; the result is the first page that cannot be, or `end`. */
  #claimAll(first: number, end: number): number {
    const { states } = this.#host;
    for (let p = first; p < end; p++) {
      const state = states.get(p);
      if (state === DISCARDING) states.wait(p);
      if (states.get(p) === UNPLUGGED) continue;
      if (states.change(p, PRESENT, UNPLUGGING) || states.change(p, DISCARDED, UNPLUGGING)) continue;
      return p;
    }
    return end;
  }

  #setPlugged(first: number, end: number, plugged: boolean): void {
    const { counts, states } = this.#host;
    const [from, to] = plugged ? [UNPLUGGED, PRESENT] : [PRESENT, UNPLUGGED];
    for (let p = first; p < end; p++) {
      if (plugged && states.get(p) !== from) throw invalid('memory that is plugged cannot be plugged');
    }
    for (let b = first >>> 9; b * BLOCK_PAGES < end; b++) counts.enter(b);
    for (let p = first; p < end; p++) if (states.change(p, from, to)) states.mark(p >>> 9, plugged ? -1 : 1);
    for (let b = first >>> 9; b * BLOCK_PAGES < end; b++) counts.leave(b);
  }

  #operating<T>(f: () => T): T {
    this.#operations++;
    try {
      return f();
    } finally {
      this.#operations--;
    }
  }

  /** Whole pages of RAM, as indices. */
  #range(base: Gpa, length: number): readonly [number, number] {
    const span = base % PIN_PAGE === 0 && length % PIN_PAGE === 0 && length > 0 && this.#host.index.find(base, length);
    if (!span || this.#host.index.firstRom(span, base, length) !== undefined) {
      throw invalid(`${length} bytes at ${base} are not whole pages of RAM`);
    }
    const first = indexOf(span, base);
    return [first, first + length / PIN_PAGE];
  }

  #eachBlock(base: Gpa, length: number, f: (first: number, end: number) => void): void {
    this.#host.index.eachWhole(base, length, (first, end) => {
      for (let p = first; p < end; ) {
        const stop = Math.min(end, ((p >>> 9) + 1) << 9);
        f(p, stop);
        p = stop;
      }
    });
  }
}
