/**
 * Pins: references to guest RAM that outlive a call, with the semantics of the kernel's pin_user_pages() and FOLL_PIN. Who holds
 * which page, for how long, for reading or writing; what every other operation on that page must then do.
 */

import type { Gpa } from './types.ts';

// Flags, with the names and values of the kernel (include/linux/mm.h of 6.1).
/** The holder writes. Without it a pin is for reading, and its pages are not dirty. */
export const FOLL_WRITE = 0x1;
/** A borrow: used within the call, not counted. Not together with FOLL_PIN. */
export const FOLL_GET = 0x4;
/** The lifetime is the guest's or the device's to decide. Only together with FOLL_PIN. */
export const FOLL_LONGTERM = 0x1_0000;
export const FOLL_PIN = 0x4_0000;

/** Bytes of the pages that are counted. */
export const PIN_PAGE = 4096;

/** Why a pin is refused; the kernel's names. EBUSY is what other operations get because of pins. */
export type PinErrno = 'EINVAL' | 'EPERM' | 'EFAULT' | 'ENOMEM' | 'EOPNOTSUPP' | 'EOVERFLOW' | 'EBUSY';

/**
 * A pin's name: a number that is never given out twice in the life of a table, so that a second release is noticed. It allocates
 * nothing.
 */
export type PinHandle = number;

/** Who pins: a device, with a queue of it perhaps. Made once, when the device is; pins refer to it. */
export interface PinOwner {
  /** E.g. 'disk0', 'net0 queue 1', 'edu0 DMA'. */
  readonly name: string;
  /** Base pages that it has pinned, and released, since it was made. */
  readonly acquired: number;
  readonly released: number;
}

/** One pin, as reports show it. Plain data. */
export interface PinInfo {
  readonly owner: string;
  readonly base: Gpa;
  /** Bytes. */
  readonly length: number;
  readonly write: boolean;
  readonly longterm: boolean;
  readonly revocable: boolean;
  /** Clock time of its start, ns. */
  readonly sinceNs: number;
}

/** The pins of a machine's memory, as its devices see them. */
export interface Pins {
  /** Registers a holder. */
  owner(name: string): PinOwner;
  /**
   * Pins [base, base + length), all of it or nothing (PIN-1). Allocates nothing.
   * @param flags FOLL_PIN, with FOLL_WRITE and FOLL_LONGTERM as needed (PIN-2).
   * @throws VmError whose `details.errno` is a {@link PinErrno} (PIN-7), naming the page, the owner and the limit.
   */
  pin(base: Gpa, length: number, flags: number, owner: PinOwner): PinHandle;
  /** The same for what a guest asked: 0 where pin() would throw; {@link lastErrno} says why. */
  tryPin(base: Gpa, length: number, flags: number, owner: PinOwner): PinHandle;
  readonly lastErrno: PinErrno | undefined;
  /**
   * A long-term pin whose holder lets go when asked: `revoke` must have released it when it returns (kernel case 3).
   * @throws VmError as pin().
   */
  pinRevocable(base: Gpa, length: number, flags: number, owner: PinOwner, revoke: () => void): PinHandle;
  /**
   * Releases a pin, once (PIN-4).
   * @param dirty the holder has written: only of a pin with FOLL_WRITE.
   * @throws VmError (EINVAL) for a handle that is no pin's, or for `dirty` of a pin for reading.
   */
  unpin(handle: PinHandle, dirty?: boolean): void;
  /** The pinned bytes, valid until unpin(); undefined when they lie in more than one region. */
  view(handle: PinHandle): Uint8Array | undefined;
  /** Whether anybody may have pinned a page of [base, base + length); exact (PIN-3). */
  maybePinned(base: Gpa, length: number): boolean;
}
