import {
  DESCRIPTOR_SIZE,
  DESCRIPTOR_WORDS,
  indirectTable,
  LATER,
  type Ring,
  RingChain,
  type RingLayout,
  type RingOptions,
  type RingState,
  ringArea,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from './chain.ts';

const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
const VIRTQ_USED_F_NO_NOTIFY = 1;
/** Index of `idx` in the available and in the used ring, and of the first entry of the available ring, in 16-bit words. */
const IDX = 1;
const RING = 2;

/** Alignment of the three areas, bytes (section 2.7). */
export const SPLIT_ALIGNMENT = { desc: 16, driver: 2, device: 4 };

/** A split virtqueue in guest memory (section 2.7), with the driver's initial state: both indices are 0. */
export class SplitRing implements Ring {
  readonly #o: RingOptions;
  readonly #size: number;
  readonly #mask: number;
  readonly #table: Uint32Array;
  /** flags, idx, the ring, used_event. */
  readonly #available: Uint16Array;
  /** flags, idx, the ring of 8-byte elements, avail_event; and the same in 32-bit words. */
  readonly #used: Uint16Array;
  readonly #usedWords: Uint32Array;
  /** Next entry of the available ring to take; free-running, as `idx` is. */
  #next = 0;
  /** `idx` of the used ring, and what it was when the driver was last considered for an interrupt. */
  #usedIdx = 0;
  #signalled = 0;
  #wanted = true;
  /** What avail_event has been set to; -1: not yet. */
  #event = -1;

  private constructor(o: RingOptions, size: number, table: Uint8Array, available: Uint8Array, used: Uint8Array) {
    this.#o = o;
    this.#size = size;
    this.#mask = size - 1;
    this.#table = new Uint32Array(table.buffer, table.byteOffset, size * DESCRIPTOR_WORDS);
    this.#available = new Uint16Array(available.buffer, available.byteOffset, 3 + size);
    this.#used = new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size);
    this.#usedWords = new Uint32Array(used.buffer, used.byteOffset, 1 + 2 * size);
  }

  /** The ring at a place whose size and alignment are right; undefined after fail() or later(), when it is not in memory. */
  static at({ size, desc, driver, device }: RingLayout, o: RingOptions): SplitRing | undefined {
    const table = ringArea(o, 'descriptor table', desc, DESCRIPTOR_SIZE * size, 'r');
    const available = table && ringArea(o, 'available ring', driver, 6 + 2 * size, 'r');
    const used = available && ringArea(o, 'used ring', device, 6 + 8 * size, 'w');
    return table && available && used && new SplitRing(o, size, table, available, used);
  }

  take(): RingChain | undefined {
    // The atomic load keeps the reads of entry and descriptors behind it: section 2.7.13.3.1, seen from this side.
    let waiting = (Atomics.load(this.#available, IDX) - this.#next) & 0xffff;
    if (waiting === 0) {
      if (!this.#requestEvent()) return undefined;
      // Something may have come before the driver could see the request: it will not notify for that.
      waiting = (Atomics.load(this.#available, IDX) - this.#next) & 0xffff;
      if (waiting === 0) return undefined;
    }
    if (waiting > this.#size) return this.#fail(`the available index is ${waiting} ahead of ${this.#size} descriptors`);
    const head = this.#available[RING + (this.#next & this.#mask)]!;
    const chain = new RingChain(this, this.#o.pins);
    chain.id = head;
    const why = this.#walk(chain, head);
    if (why !== undefined) {
      chain.release();
      if (why !== LATER) return this.#fail(why);
      this.#o.later();
      return undefined;
    }
    this.#next = (this.#next + 1) & 0xffff;
    // Now and not when the ring is found empty: a device may stop at what the queue holds, without another look.
    this.#requestEvent();
    return chain;
  }

  put(chain: RingChain, written: number): void {
    const at = 1 + 2 * (this.#usedIdx & this.#mask);
    this.#usedWords[at] = chain.id;
    this.#usedWords[at + 1] = written;
    this.#usedIdx = (this.#usedIdx + 1) & 0xffff;
    // Section 2.7.8.2: the element is there before the index says so.
    Atomics.store(this.#used, IDX, this.#usedIdx);
  }

  save(chains: number): RingState {
    return { next: (this.#next - chains) & 0xffff, used: this.#usedIdx, signalled: this.#signalled };
  }

  restore(s: RingState): void {
    this.#next = s.next;
    this.#usedIdx = s.used;
    this.#signalled = s.signalled;
    // What avail_event says is of a moment before; so the driver notifies once too often at most.
    this.#event = -1;
    this.#requestEvent();
  }

  interruptWanted(): boolean {
    const since = (this.#usedIdx - this.#signalled) & 0xffff;
    if (since === 0) return false;
    const first = this.#signalled;
    this.#signalled = this.#usedIdx;
    if (!this.#o.eventIdx) return (Atomics.load(this.#available, 0) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    // Section 2.7.7.2: the entry that used_event names is among those that were written.
    const event = Atomics.load(this.#available, RING + this.#size);
    return ((event - first) & 0xffff) < since;
  }

  wantNotifications(wanted: boolean): void {
    this.#wanted = wanted;
    if (!this.#o.eventIdx) Atomics.store(this.#used, 0, wanted ? 0 : VIRTQ_USED_F_NO_NOTIFY);
    else if (wanted) this.#requestEvent();
    else {
      // As far away as it can be: the entry just before the next one.
      this.#event = (this.#next - 1) & 0xffff;
      Atomics.store(this.#used, RING + 4 * this.#size, this.#event);
    }
  }

  /** Asks for a notification at the next chain; false when that has been asked already, or is not wanted. */
  #requestEvent(): boolean {
    if (!this.#o.eventIdx || !this.#wanted || this.#event === this.#next) return false;
    this.#event = this.#next;
    Atomics.store(this.#used, RING + 4 * this.#size, this.#next);
    return true;
  }

  /**
   * Follows a chain from its head. Every descriptor is read once: the driver may be changing it.
   * @returns which rule the chain breaks, LATER, or undefined.
   */
  #walk(chain: RingChain, head: number): string | undefined {
    const { ram, indirect } = this.#o;
    let table = this.#table;
    let count = this.#size;
    let index = head;
    let steps = 0;
    for (;;) {
      if (index >= count) return `descriptor ${index} of ${count}`;
      if (steps++ === count) return 'a chain that does not end';
      const at = index * DESCRIPTOR_WORDS;
      const link = table[at + 3]!;
      const next = (link & VIRTQ_DESC_F_NEXT) !== 0;
      if (table === this.#table) chain.descriptors = steps;
      if ((link & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (!indirect) return 'an indirect table, which has not been negotiated';
        if (table !== this.#table) return 'an indirect table inside of another';
        if (next) return 'a descriptor with INDIRECT and NEXT';
        const found = indirectTable(ram, table, at, this.#size);
        if (typeof found === 'string') return found;
        table = found;
        count = found.length / DESCRIPTOR_WORDS;
        index = steps = 0;
        continue;
      }
      const why = chain.add(table, at, (link & VIRTQ_DESC_F_WRITE) !== 0);
      if (why !== undefined) return why;
      if (!next) return undefined;
      index = link >>> 16;
    }
  }

  #fail(why: string): undefined {
    this.#o.fail(why);
  }
}
