import type { PinOwner } from '../../memory/pin-types.ts';
import { VmError } from '../../util/errors.ts';
import { type Ring, RingChain, type RingLayout, type RingOptions, type RingState } from './chain.ts';
import type { Chain, VirtQueue } from './device.ts';
import type { GuestRam } from './guest-ram.ts';
import { PACKED_ALIGNMENT, PackedRing } from './packed-ring.ts';
import { PinList, QueuePins } from './pins.ts';
import { SPLIT_ALIGNMENT, SplitRing } from './split-ring.ts';

/** Largest virtqueue (sections 2.7 and 2.8). */
export const MAX_QUEUE_SIZE = 32768;

/**
 * Buffers that a device may hold at once. Indirect tables may overlap, so the memory of the guest does not bound what its
 * requests take up in ours; a queue of 1024 requests with 256 segments each is the most that drivers come near.
 */
const MAX_BUFFERS = 2 ** 18;

/** What a {@link Queue} is made of. */
export interface QueueOptions {
  readonly index: number;
  readonly ram: GuestRam;
  /** Whose the pins of ring and requests are. */
  readonly owner: PinOwner;
  /** VIRTIO_F_INDIRECT_DESC has been negotiated. */
  readonly indirect: boolean;
  /** VIRTIO_F_EVENT_IDX has been negotiated. */
  readonly eventIdx: boolean;
  /** VIRTIO_F_RING_PACKED has been negotiated. */
  readonly packed: boolean;
  /** Interrupts the driver for this queue. */
  interrupt(): void;
  /** The driver has broken a rule: `why` is for people. The queue will be stopped. */
  fail(why: string): void;
  /** A request waits for memory that others have pinned. It is the device's to be told, without a notification, by and by. */
  later(): void;
}

/** A returned chain that could not be written into the ring yet. */
interface Late {
  readonly chain: RingChain;
  readonly written: number;
}

/**
 * A virtqueue over guest memory, from DRIVER_OK to the device's reset. It finds its ring at the first use, pins it for long, and
 * touches guest memory only while the device may: meanwhile pop() gives nothing, and what is pushed waits for resume(). Buffers
 * of a request are pinned from the time that it is taken out of the ring until the device returns it.
 */
export class Queue implements VirtQueue {
  readonly index: number;
  readonly #o: QueueOptions;
  readonly #pins: QueuePins;
  /** Of the ring; empty without one. */
  readonly #areas = new PinList();
  #layout: RingLayout | undefined;
  #ring: Ring | undefined;
  /** The device has failed; nothing is done any more. */
  #stopped = false;
  #wanted = true;
  /** The chain that was taken last. */
  #newest: RingChain | undefined;
  /** How far the ring is, until it is mapped. */
  #saved: RingState | undefined;
  /** What the device has put back, the last one first. */
  #unpopped: RingChain[] = [];
  #late: Late[] = [];
  /** Descriptors and buffers of the chains between take() and put(). */
  #descriptors = 0;
  #buffers = 0;
  /** Chains that the device has, of this ring or one before; each knows its place. */
  readonly #held: RingChain[] = [];
  #idle: (() => void) | undefined;

  constructor(o: QueueOptions) {
    this.#o = o;
    this.index = o.index;
    this.#pins = new QueuePins(o.ram, o.owner);
  }

  get size(): number {
    return this.#layout?.size ?? 0;
  }

  /**
   * The driver has enabled the queue. Fails the device when a ring cannot be there.
   * @param state how far it is, when it does not begin.
   */
  enable(layout: RingLayout, state?: RingState): void {
    const why = misplaced(layout, this.#o.packed);
    if (why !== undefined) {
      this.#fail(why);
      return;
    }
    this.#layout = layout;
    this.#saved = state;
    if (this.#o.ram.allowed) this.#map();
  }

  /**
   * The driver resets the queue: what was popped will be dropped when it is pushed. `idle` is called, perhaps at once, when
   * the device has none of it any more and the memory is the driver's again (section 2.6.1.1).
   */
  disable(idle: () => void): void {
    this.#layout = undefined;
    this.#unmap();
    for (const chain of this.#unpopped) chain.release();
    this.#unpopped = [];
    this.#late = [];
    this.#descriptors = this.#buffers = 0;
    this.#o.ram.released();
    if (this.#held.length === 0) idle();
    else this.#idle = idle;
  }

  /** Ends all use of the ring, for good. Requests that the device has stay pinned until it returns them, or {@link letGo}. */
  stop(): void {
    this.#stopped = true;
    this.disable(() => undefined);
    this.#idle = undefined;
  }

  /** The device's reset is finished: it has forgotten what it had, and will not return it (guest reset of table 4.3: drained). */
  letGo(): void {
    for (const chain of this.#held.splice(0)) {
      chain.holder = undefined;
      chain.release();
    }
    this.#o.ram.released();
  }

  /**
   * How far the queue is; undefined while it has no ring. One chain may be with the device if none came after it, such as a balloon's
   * buffer for statistics: it is as if it had not been taken yet.
   * @throws VmError ERR_STATE while there is more that would get lost.
   */
  save(): RingState | undefined {
    if (this.#layout === undefined) return undefined;
    const taken = [...this.#held, ...this.#unpopped];
    if (this.#late.length > 0 || taken.length > 1 || (taken[0] ?? this.#newest) !== this.#newest) {
      throw new VmError('ERR_STATE', `${this.#o.owner.name} has requests under way`, {
        hint: 'try again when the guest is less busy',
        details: { owner: this.#o.owner.name },
      });
    }
    return this.#ring?.save(taken.length, this.#descriptors) ?? this.#saved;
  }

  /** The device may use guest memory again: does what had to wait. */
  resume(): void {
    const ring = this.#usable();
    if (ring === undefined) return;
    ring.wantNotifications(this.#wanted);
    for (const { chain, written } of this.#late.splice(0)) this.#put(ring, chain, written);
    this.notifyDriver();
  }

  pop(): Chain | undefined {
    if (this.#layout === undefined || !this.#o.ram.allowed) return undefined;
    const chain = this.#unpopped.pop() ?? this.#take();
    if (chain === undefined) return undefined;
    chain.holder = this;
    chain.place = this.#held.length;
    this.#held.push(chain);
    return chain;
  }

  unpop(chain: Chain): void {
    if (!this.#takeBack(chain)) return;
    if (chain.ring === this.#ring) this.#unpopped.push(chain);
    else this.#release(chain);
    this.#lookIdle();
  }

  unpin(chain: Chain): void {
    if (chain instanceof RingChain && chain.holder === this) this.#release(chain);
  }

  push(chain: Chain, written: number): void {
    if (!this.#takeBack(chain)) return;
    // Whatever becomes of the answer: the device is through with the buffers.
    this.#release(chain);
    this.#lookIdle();
    if (chain.ring !== this.#ring) return;
    // More than there is room for would be a lie, and 2^32 does not fit.
    const length = Math.min(written, chain.writableLength, 0xffff_ffff);
    const ring = this.#usable();
    if (ring === undefined) this.#late.push({ chain, written: length });
    else this.#put(ring, chain, length);
  }

  notifyDriver(): void {
    if (this.#usable()?.interruptWanted()) this.#o.interrupt();
  }

  /** After asking for notifications the device must look at the queue once more: what is there already is not notified. */
  setDriverNotifications(wanted: boolean): void {
    if (this.#wanted === wanted) return;
    this.#wanted = wanted;
    this.#usable()?.wantNotifications(wanted);
  }

  /** The ring, while it may be touched. */
  #usable(): Ring | undefined {
    return this.#ring !== undefined && this.#o.ram.allowed ? this.#ring : undefined;
  }

  /** Takes a chain away from the device; false when the device does not have it. */
  #takeBack(chain: Chain): chain is RingChain {
    if (!(chain instanceof RingChain) || chain.holder !== this) return false;
    chain.holder = undefined;
    const last = this.#held.pop()!;
    if (last !== chain) {
      this.#held[chain.place] = last;
      last.place = chain.place;
    }
    return true;
  }

  /** Tells whoever has reset the queue, once the device has none of its memory any more. */
  #lookIdle(): void {
    if (this.#held.length > 0 || this.#idle === undefined) return;
    const idle = this.#idle;
    this.#idle = undefined;
    idle();
  }

  #release(chain: RingChain): void {
    chain.release();
    this.#o.ram.released();
  }

  #take(): RingChain | undefined {
    const chain = (this.#ring ?? this.#map())?.take();
    if (chain === undefined) return undefined;
    this.#newest = chain;
    this.#descriptors += chain.descriptors;
    this.#buffers += chain.readable.length + chain.writable.length;
    // A descriptor belongs to one chain at a time: a driver that breaks this could make us work without end.
    if (this.#descriptors > this.size)
      this.#o.fail(`queue ${this.index}: descriptors that are in use are offered again`);
    else if (this.#buffers > MAX_BUFFERS) this.#o.fail(`queue ${this.index}: more than ${MAX_BUFFERS} buffers in use`);
    else return chain;
    chain.release();
    return undefined;
  }

  #put(ring: Ring, chain: RingChain, written: number): void {
    this.#descriptors -= chain.descriptors;
    this.#buffers -= chain.readable.length + chain.writable.length;
    ring.put(chain, written);
  }

  #map(): Ring | undefined {
    if (this.#layout === undefined || this.#stopped) return undefined;
    const { ram, indirect, eventIdx, packed } = this.#o;
    const options: RingOptions = {
      ram,
      pins: this.#pins,
      areas: this.#areas,
      indirect,
      eventIdx,
      fail: why => this.#fail(why),
      later: () => this.#o.later(),
    };
    this.#ring = packed ? PackedRing.at(this.#layout, options) : SplitRing.at(this.#layout, options);
    if (this.#ring === undefined) {
      this.#unmap();
      return undefined;
    }
    if (this.#saved !== undefined) this.#ring.restore(this.#saved);
    this.#saved = undefined;
    if (!this.#wanted) this.#ring.wantNotifications(false);
    return this.#ring;
  }

  #unmap(): void {
    this.#ring = undefined;
    this.#areas.release(this.#o.ram);
  }

  #fail(why: string): void {
    this.#o.fail(`queue ${this.index}: ${why}`);
  }
}

/** Why no virtqueue can be at `layout`, or undefined. */
function misplaced({ size, desc, driver, device }: RingLayout, packed: boolean): string | undefined {
  if (size < 1 || size > MAX_QUEUE_SIZE) return `a size of ${size}`;
  if (!packed && (size & (size - 1)) !== 0) return `a size of ${size}, which is no power of two`;
  const alignment = packed ? PACKED_ALIGNMENT : SPLIT_ALIGNMENT;
  if (desc % alignment.desc !== 0) return 'its descriptor area is not aligned';
  if (driver % alignment.driver !== 0) return 'its driver area is not aligned';
  if (device % alignment.device !== 0) return 'its device area is not aligned';
  return undefined;
}
