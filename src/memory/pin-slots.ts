import type { PinKind } from './page-counts.ts';
import type { PinHandle } from './pin-types.ts';

const FREE = -1;
const START = 64;
/** Pins of one thread at a time. */
export const MAX_PINS = 2 ** 20;

/**
 * The pins of a thread by handle, in typed arrays, so that taking and releasing one allocates nothing.
 * A handle is a serial number; its place is the serial's low bits, and a serial whose place is taken is passed over. So no handle is
 * ever given out twice, and there is no list of free places to keep.
 */
export class PinSlots {
  /** Serial at each place, or FREE. */
  #serials = new Float64Array(START).fill(FREE);
  #next = 1;
  #live = 0;
  first = new Int32Array(START);
  end = new Int32Array(START);
  kind = new Uint8Array(START);
  owner = new Int32Array(START);
  base = new Float64Array(START);
  length = new Float64Array(START);
  sinceNs = new Float64Array(START);

  get live(): number {
    return this.#live;
  }

  /** A new handle; its place is at(). The caller has seen that fewer than MAX_PINS live. */
  take(): PinHandle {
    // Half full at most: then a free place is two steps away on average.
    if (this.#live * 2 >= this.#serials.length) this.#grow();
    const serials = this.#serials;
    const mask = serials.length - 1;
    let serial = this.#next;
    while (serials[serial & mask] !== FREE) serial++;
    serials[serial & mask] = serial;
    this.#next = serial + 1;
    this.#live++;
    return serial;
  }

  /** Place of a handle in the arrays, or -1 for what is no live pin's. */
  at(handle: PinHandle): number {
    const place = handle & (this.#serials.length - 1);
    return handle > 0 && this.#serials[place] === handle ? place : -1;
  }

  /** Frees a place. */
  free(place: number): void {
    this.#serials[place] = FREE;
    this.#live--;
  }

  kindAt(place: number): PinKind {
    return this.kind[place] as PinKind;
  }

  /** Handles of all live pins, oldest first. */
  handles(): PinHandle[] {
    return [...this.#serials].filter(s => s !== FREE).sort((a, b) => a - b);
  }

  #grow(): void {
    const before = this.#serials;
    const size = before.length * 2;
    const old = { ...this };
    this.#serials = new Float64Array(size).fill(FREE);
    this.first = new Int32Array(size);
    this.end = new Int32Array(size);
    this.kind = new Uint8Array(size);
    this.owner = new Int32Array(size);
    this.base = new Float64Array(size);
    this.length = new Float64Array(size);
    this.sinceNs = new Float64Array(size);
    for (let from = 0; from < before.length; from++) {
      const serial = before[from]!;
      if (serial === FREE) continue;
      // Places that differed in their low bits differ in one more.
      const to = serial & (size - 1);
      this.#serials[to] = serial;
      this.first[to] = old.first[from]!;
      this.end[to] = old.end[from]!;
      this.kind[to] = old.kind[from]!;
      this.owner[to] = old.owner[from]!;
      this.base[to] = old.base[from]!;
      this.length[to] = old.length[from]!;
      this.sinceNs[to] = old.sinceNs[from]!;
    }
  }
}
