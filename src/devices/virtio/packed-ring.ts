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

const VIRTQ_DESC_F_AVAIL = 1 << 7;
const VIRTQ_DESC_F_USED = 1 << 15;

// Event suppression (section 2.8.14): bits 14:0 offset, 15 wrap counter, 17:16 flags of one 32-bit word.
const EVENT_WRAP_SHIFT = 15;
const EVENT_FLAGS_SHIFT = 16;
const RING_EVENT_FLAGS_ENABLE = 0;
const RING_EVENT_FLAGS_DISABLE = 1;
const RING_EVENT_FLAGS_DESC = 2;

/** Alignment of the three areas, bytes (section 2.8.10.1). */
export const PACKED_ALIGNMENT = { desc: 16, driver: 4, device: 4 };

/**
 * A packed virtqueue in guest memory (section 2.8). A position counts from 0 to 2 * size - 1 through two rounds of the ring,
 * the first with wrap counter 1, the second with 0; offset and wrap counter follow from it.
 */
export class PackedRing implements Ring {
  readonly #o: RingOptions;
  readonly #size: number;
  readonly #ring: Uint32Array;
  readonly #driverEvent: Uint32Array;
  readonly #deviceEvent: Uint32Array;
  /** Position of the next descriptor to take. */
  #next = 0;
  /** Position of the next descriptor to write as used, and how far it has moved since the driver was considered. */
  #used = 0;
  #since = 0;
  #wanted = true;
  /** What the device's event suppression has been set to; -1: not yet. */
  #event = -1;

  private constructor(o: RingOptions, size: number, ring: Uint8Array, driver: Uint8Array, device: Uint8Array) {
    this.#o = o;
    this.#size = size;
    this.#ring = new Uint32Array(ring.buffer, ring.byteOffset, size * DESCRIPTOR_WORDS);
    this.#driverEvent = new Uint32Array(driver.buffer, driver.byteOffset, 1);
    this.#deviceEvent = new Uint32Array(device.buffer, device.byteOffset, 1);
  }

  /** The ring at a place whose size and alignment are right; undefined after fail() or later(), when it is not in memory. */
  static at({ size, desc, driver, device }: RingLayout, o: RingOptions): PackedRing | undefined {
    const ring = ringArea(o, 'descriptor ring', desc, DESCRIPTOR_SIZE * size, 'w');
    const driverEvent = ring && ringArea(o, 'driver event suppression', driver, 4, 'r');
    const deviceEvent = driverEvent && ringArea(o, 'device event suppression', device, 4, 'w');
    return ring && driverEvent && deviceEvent && new PackedRing(o, size, ring, driverEvent, deviceEvent);
  }

  take(): RingChain | undefined {
    if (!this.#available()) {
      // Something may have come before the driver could see the request for an event: it will not notify for that.
      if (!this.#requestEvent() || !this.#available()) return undefined;
    }
    const chain = new RingChain(this, this.#o.pins);
    const why = this.#walk(chain);
    if (why !== undefined) {
      chain.release();
      if (why === LATER) this.#o.later();
      else this.#o.fail(why);
      return undefined;
    }
    // Now and not when the ring is found empty: a device may stop at what the queue holds, without another look.
    this.#requestEvent();
    return chain;
  }

  put(chain: RingChain, written: number): void {
    const at = this.#offset(this.#used) * DESCRIPTOR_WORDS;
    const flags =
      (written > 0 ? VIRTQ_DESC_F_WRITE : 0) |
      (this.#wrapCounter(this.#used) === 1 ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0);
    this.#ring[at + 2] = written;
    // Buffer ID and flags at once, behind the length: the driver polls the flags (section 2.8.2).
    Atomics.store(this.#ring, at + 3, (chain.id | (flags << 16)) >>> 0);
    this.#used = this.#advanced(this.#used, chain.descriptors);
    this.#since += chain.descriptors;
  }

  save(_chains: number, descriptors: number): RingState {
    const next = this.#next - descriptors;
    return { next: next < 0 ? next + 2 * this.#size : next, used: this.#used, signalled: this.#since };
  }

  restore(s: RingState): void {
    this.#next = s.next;
    this.#used = s.used;
    this.#since = s.signalled;
    this.#event = -1;
    this.#requestEvent();
  }

  interruptWanted(): boolean {
    const since = this.#since;
    if (since === 0) return false;
    this.#since = 0;
    const event = Atomics.load(this.#driverEvent, 0);
    const flags = (event >>> EVENT_FLAGS_SHIFT) & 3;
    if (flags === RING_EVENT_FLAGS_DISABLE) return false;
    if (flags !== RING_EVENT_FLAGS_DESC || !this.#o.eventIdx) return true;
    // Section 2.8.10: the descriptor that the event names is among those that were used, skipped ones included.
    const round = 2 * this.#size;
    const wrap = (event >>> EVENT_WRAP_SHIFT) & 1;
    const position = (event & 0x7fff) + (wrap === 1 ? 0 : this.#size);
    const first = this.#used - since;
    return (((position - first) % round) + round) % round < since;
  }

  wantNotifications(wanted: boolean): void {
    this.#wanted = wanted;
    if (!wanted) this.#setEvent(RING_EVENT_FLAGS_DISABLE << EVENT_FLAGS_SHIFT);
    else if (this.#o.eventIdx) this.#requestEvent();
    else this.#setEvent(RING_EVENT_FLAGS_ENABLE << EVENT_FLAGS_SHIFT);
  }

  /** Asks for a notification at the next chain; false when that has been asked already, or is not wanted. */
  #requestEvent(): boolean {
    if (!this.#o.eventIdx || !this.#wanted) return false;
    const place = this.#offset(this.#next) | (this.#wrapCounter(this.#next) << EVENT_WRAP_SHIFT);
    return this.#setEvent(place | (RING_EVENT_FLAGS_DESC << EVENT_FLAGS_SHIFT));
  }

  /** Offset and flags change at once, as drivers read them. */
  #setEvent(event: number): boolean {
    if (this.#event === event) return false;
    this.#event = event;
    Atomics.store(this.#deviceEvent, 0, event);
    return true;
  }

  /** Section 2.8.1: AVAIL equals the wrap counter, USED does not. The atomic load keeps the reads of the rest behind it. */
  #available(): boolean {
    const flags = Atomics.load(this.#ring, this.#offset(this.#next) * DESCRIPTOR_WORDS + 3) >>> 16;
    const wrap = this.#wrapCounter(this.#next) === 1;
    return ((flags & VIRTQ_DESC_F_AVAIL) !== 0) === wrap && ((flags & VIRTQ_DESC_F_USED) !== 0) !== wrap;
  }

  /**
   * Takes the chain at #next. Every descriptor is read once: the driver may be changing it. Those behind the first are not
   * asked whether they are available: the driver has made them so before the first one.
   * @returns which rule the chain breaks, LATER, or undefined.
   */
  #walk(chain: RingChain): string | undefined {
    const { indirect } = this.#o;
    const ring = this.#ring;
    let position = this.#next;
    for (let count = 1; ; count++) {
      const at = this.#offset(position) * DESCRIPTOR_WORDS;
      const word = ring[at + 3]!;
      const flags = word >>> 16;
      const next = (flags & VIRTQ_DESC_F_NEXT) !== 0;
      let why: string | undefined;
      if ((flags & VIRTQ_DESC_F_INDIRECT) === 0) why = chain.add(ring, at, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      else if (!indirect) why = 'an indirect table, which has not been negotiated';
      else if (next || count > 1) why = 'an indirect table in a list of descriptors';
      else why = this.#addTable(chain, at);
      if (next && count === this.#size) why ??= 'a chain that does not end';
      if (why !== undefined) return why;
      position = this.#advanced(position, 1);
      if (next) continue;
      chain.id = word & 0xffff;
      chain.descriptors = count;
      this.#next = position;
      return undefined;
    }
  }

  /** Adds all descriptors of an indirect table: they follow each other, and only WRITE counts (section 2.8.7). */
  #addTable(chain: RingChain, at: number): string | undefined {
    const { ram } = this.#o;
    const table = indirectTable(ram, this.#ring, at, this.#size);
    if (typeof table === 'string') return table;
    for (let t = 0; t < table.length; t += DESCRIPTOR_WORDS) {
      const flags = table[t + 3]! >>> 16;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) return 'an indirect table inside of another';
      const why = chain.add(table, t, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      if (why !== undefined) return why;
    }
    return undefined;
  }

  #offset(position: number): number {
    return position < this.#size ? position : position - this.#size;
  }

  #wrapCounter(position: number): 0 | 1 {
    return position < this.#size ? 1 : 0;
  }

  #advanced(position: number, by: number): number {
    const end = position + by;
    return end < 2 * this.#size ? end : end - 2 * this.#size;
  }
}
