import type { PinHandle, PinOwner } from '../../memory/pin-types.ts';
import type { DmaRefusal } from '../../pci/dma.ts';
import type { GuestRam } from './guest-ram.ts';

/** Lists that have been longer than this, in pins, are not kept for the next chain. */
const KEPT = 64;

/** The pins of a chain or of a ring. Handles alone: what they stand for is in the table. */
export class PinList {
  readonly #handles: PinHandle[] = [];
  #count = 0;

  /** How many there are; and how many there ever were at once. */
  get count(): number {
    return this.#count;
  }

  get capacity(): number {
    return this.#handles.length;
  }

  add(handle: PinHandle): void {
    this.#handles[this.#count++] = handle;
  }

  /** Releases them all. The list keeps its room. */
  release(ram: GuestRam): void {
    const count = this.#count;
    this.#count = 0;
    for (let i = 0; i < count; i++) ram.unpin(this.#handles[i]!);
  }
}

/** What one queue pins, in its name. */
export class QueuePins {
  /** Lists that wait for their next chain, so that a request costs no new one. */
  readonly #spare: PinList[] = [];

  constructor(
    readonly ram: GuestRam,
    readonly owner: PinOwner,
  ) {}

  /** An empty list. */
  list(): PinList {
    return this.#spare.pop() ?? new PinList();
  }

  /** Pins a range, notes that in `list`, and gives its bytes, or why it cannot be had. */
  pin(
    list: PinList,
    address: number,
    length: number,
    access: 'r' | 'w',
    longterm: boolean,
  ): Uint8Array | DmaRefusal | undefined {
    const { ram } = this;
    const handle = ram.pin(address, length, access, this.owner, longterm);
    if (handle === 0) return ram.refused;
    const bytes = ram.pinned(handle);
    if (bytes === undefined) {
      // In two regions of memory: devices get buffers in one piece.
      ram.unpin(handle);
      return 'EFAULT';
    }
    list.add(handle);
    return bytes;
  }

  /** Releases all pins of a list, which the caller uses no more. */
  release(list: PinList): void {
    list.release(this.ram);
    if (list.capacity <= KEPT) this.#spare.push(list);
  }
}

/** Ends the sentence that begins with what a driver has put somewhere. */
export function refusal(why: DmaRefusal | undefined): string {
  if (why === 'EFAULT') return 'is not in memory';
  return why === 'EPERM' ? 'is in memory that cannot be written' : `cannot be pinned: ${why}`;
}
