import { hex } from '../../util/hex.ts';
import type { Chain } from './device.ts';
import type { GuestRam } from './guest-ram.ts';
import { type PinList, type QueuePins, refusal } from './pins.ts';

/** Descriptor flags of both ring formats (sections 2.7.5 and 2.8.13). */
export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;

/** Bytes of a descriptor in the ring and in an indirect table, and its 32-bit words. */
export const DESCRIPTOR_SIZE = 16;
export const DESCRIPTOR_WORDS = 4;

/**
 * Descriptors that an indirect table may have. A driver must not make a chain longer than the queue (section 2.7.5.3.1), but
 * drivers do: Linux goes by what the device says about segments, and a small queue says nothing about those.
 */
const MAX_INDIRECT = 1024;

/** Longest chain, bytes (section 2.7.5.2). */
const MAX_CHAIN_BYTES = 2 ** 32;

/** Why a chain cannot be taken now but later: too much is in flight, or the memory is held still (table 4.3). Nobody's mistake. */
export const LATER = 'memory that cannot be pinned now';

/** Where the driver has put a virtqueue: guest-physical addresses of the three areas (section 2.6). */
export interface RingLayout {
  /** Number of descriptors: 1 to 32768, for a split virtqueue a power of two. */
  readonly size: number;
  readonly desc: number;
  readonly driver: number;
  readonly device: number;
}

/** What a ring needs from its queue. */
export interface RingOptions {
  readonly ram: GuestRam;
  readonly pins: QueuePins;
  /** Where the ring's own pins go; they are its queue's to release. */
  readonly areas: PinList;
  /** VIRTIO_F_INDIRECT_DESC has been negotiated. */
  readonly indirect: boolean;
  /** VIRTIO_F_EVENT_IDX has been negotiated. */
  readonly eventIdx: boolean;
  /** The driver has broken a rule: `why` is for people. Nothing is asked of the ring afterwards. */
  fail(why: string): void;
  /** The next chain stays in the ring, or the ring is not mapped, because of {@link LATER}. */
  later(): void;
}

/** How far a ring is; free-running indices of a split one, positions of a packed one. Plain data. */
export interface RingState {
  /** Next to take. */
  readonly next: number;
  /** Next to return. */
  readonly used: number;
  /** Split: `used` when an interrupt was last considered. Packed: descriptors that were returned since. */
  readonly signalled: number;
}

/**
 * A virtqueue in guest memory, split or packed. Its methods are called only while the device may use guest memory. The words
 * of the ring are in the host's byte order, which is the ring's on every host that the engines run on: little-endian.
 */
export interface Ring {
  /** The next chain; undefined when there is none, or after fail() or later(). */
  take(): RingChain | undefined;
  /** Returns a chain with `written` bytes of its writable part valid. */
  put(chain: RingChain, written: number): void;
  /** Whether the driver wants an interrupt for what was put since the last call. */
  interruptWanted(): boolean;
  /**
   * How far the ring is, as if `chains` of the last chains that were taken, of so many descriptors, had not been.
   */
  save(chains: number, descriptors: number): RingState;
  /** Goes on from there. */
  restore(state: RingState): void;
  /** Whether the driver shall notify the device of new chains. */
  wantNotifications(wanted: boolean): void;
}

/** A chain out of a ring. */
export class RingChain implements Chain {
  readonly readable: Uint8Array[] = [];
  readonly writable: Uint8Array[] = [];
  readableLength = 0;
  writableLength = 0;
  /** What the driver knows the chain by: the head's index (split), or the Buffer ID (packed). */
  id = 0;
  /** Descriptors of the ring that the chain takes up; those of an indirect table do not count. */
  descriptors = 0;
  /** The queue whose device has the chain: set by pop(), taken away by push() and unpop(). */
  holder: object | undefined;
  /** Its place among the chains that the device has. */
  place = 0;
  /** Of the buffers, from take() until the chain is returned or given up. */
  pins: PinList | undefined;
  readonly #pins: QueuePins;

  /**
   * @param ring where the chain comes from; a ring lives from the enabling of a queue to its reset.
   * @param pins of its queue.
   */
  constructor(
    readonly ring: Ring,
    pins: QueuePins,
  ) {
    this.#pins = pins;
    this.pins = pins.list();
  }

  /** Releases the guest's memory: the buffers must not be used from here on. */
  release(): void {
    const { pins } = this;
    if (pins === undefined) return;
    this.pins = undefined;
    this.#pins.release(pins);
  }

  /**
   * Pins the buffer of a descriptor and adds it.
   * @param words descriptors. @param at index of the descriptor's first word. @param write it is device-writable.
   * @returns which rule it breaks, {@link LATER}, or undefined.
   */
  add(words: Uint32Array, at: number, write: boolean): string | undefined {
    const length = words[at + 2]!;
    // No driver should make empty buffers, but they hurt nobody; their address means nothing.
    if (length === 0) return undefined;
    const address = words[at + 1]! * 2 ** 32 + words[at]!;
    if (!write && this.writable.length > 0) return 'a device-readable buffer behind a device-writable one';
    const bytes = this.#pins.pin(this.pins!, address, length, write ? 'w' : 'r', false);
    if (!(bytes instanceof Uint8Array))
      return bytes === 'ENOMEM' || bytes === 'EBUSY'
        ? LATER
        : `a buffer of ${length} bytes at ${hex(address)} ${refusal(bytes)}`;
    if (write) {
      this.writable.push(bytes);
      this.writableLength += length;
    } else {
      this.readable.push(bytes);
      this.readableLength += length;
    }
    if (this.readableLength + this.writableLength > MAX_CHAIN_BYTES) return 'a chain of more than 2^32 bytes';
    return undefined;
  }
}

/**
 * The words of the indirect table that the descriptor at `words[at]` refers to, or which rule it breaks (section 2.7.5.3). They
 * are borrowed: for the take() that asks.
 * @param size of the queue.
 */
export function indirectTable(ram: GuestRam, words: Uint32Array, at: number, size: number): Uint32Array | string {
  const length = words[at + 2]!;
  const count = length / DESCRIPTOR_SIZE;
  if (count === 0 || !Number.isInteger(count)) return `an indirect table of ${length} bytes`;
  if (count > Math.max(size, MAX_INDIRECT)) return `an indirect table of ${count} descriptors`;
  const address = words[at + 1]! * 2 ** 32 + words[at]!;
  const bytes = ram.borrow(address, length, 'r');
  if (bytes === undefined) return `an indirect table of ${length} bytes at ${hex(address)} ${refusal(ram.refused)}`;
  // No alignment is asked of a table. An odd one is copied; so is every table of a host whose memory is oddly placed.
  const aligned = (bytes.byteOffset & 3) === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, count * DESCRIPTOR_WORDS);
}

/**
 * An area of a virtqueue as it lies in memory, pinned for as long as the ring is (FOLL_LONGTERM: the driver says how long that
 * is); undefined after fail() or later(). The alignment has been checked against the guest's addresses; a host whose memory does not start
 * at a word has no such area.
 */
export function ringArea(
  o: RingOptions,
  what: string,
  address: number,
  length: number,
  access: 'r' | 'w',
): Uint8Array | undefined {
  const bytes = o.pins.pin(o.areas, address, length, access, true);
  if (bytes instanceof Uint8Array && (bytes.byteOffset & 3) === (address & 3)) return bytes;
  if (bytes === 'EBUSY') o.later();
  else o.fail(`the ${what} at ${hex(address)} ${refusal(bytes instanceof Uint8Array ? 'EFAULT' : bytes)}`);
  return undefined;
}
