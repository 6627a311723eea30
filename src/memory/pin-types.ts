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
 * A pin's name: a positive integer that is never given out twice in the life of a table, so that a second release is noticed. It
 * holds for the thread that has pinned.
 */
export type PinHandle = number;

/** Who pins: a device, with a queue of it perhaps. Made once, when the device is; pins refer to it. */
export interface PinOwner {
  /** E.g. 'disk0', 'net0 queue 1', 'edu0 DMA'. */
  readonly name: string;
  /** The table's number for it. */
  readonly id: number;
  /** A device of the host, whose long-term pins lock the host's memory and count against RLIMIT_MEMLOCK. */
  readonly passthrough: boolean;
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
  /** Clock time of its start, ns; as fine as the machine's loop tells the time, about 1 ms. */
  readonly sinceNs: number;
}

/** The pins of a machine's memory, as its devices see them. */
export interface Pins {
  /**
   * Registers a holder, or finds the one of that name.
   * @param passthrough see {@link PinOwner.passthrough}.
   */
  owner(name: string, passthrough?: boolean): PinOwner;
  /**
   * Pins [base, base + length), all of it or nothing (PIN-1). Allocates nothing.
   * @param flags FOLL_PIN, with FOLL_WRITE and FOLL_LONGTERM as needed (PIN-2).
   * @throws VmError whose `details.errno` is a {@link PinErrno} (PIN-7), naming the page, the owner and the limit.
   */
  pin(base: Gpa, length: number, flags: number, owner: PinOwner): PinHandle;
  /** The same for what a guest asked: 0 where pin() would throw; {@link lastErrno} says why. */
  tryPin(base: Gpa, length: number, flags: number, owner: PinOwner): PinHandle;
  /** Why this thread's latest refusal was one; undefined before the first. */
  readonly lastErrno: PinErrno | undefined;
  /**
   * A long-term pin whose holder lets go when asked: `revoke` must have released it when it returns (kernel case 3).
   * @throws VmError as pin().
   */
  pinRevocable(base: Gpa, length: number, flags: number, owner: PinOwner, revoke: () => void): PinHandle;
  /**
   * Releases a pin, once (PIN-4). The pages of a pin for writing become dirty, whatever `dirty` says (PIN-6).
   * @param dirty the holder has written: only of a pin with FOLL_WRITE.
   * @throws VmError ERR_PIN_INVALID for a handle that is no pin's, or for `dirty` of a pin for reading.
   */
  unpin(handle: PinHandle, dirty?: boolean): void;
  /** The pinned bytes, valid until unpin(); undefined when they lie in more than one region, or for a handle that is no pin's. */
  view(handle: PinHandle): Uint8Array | undefined;
  /** Whether anybody has pinned a page of [base, base + length); exact (PIN-3). */
  maybePinned(base: Gpa, length: number): boolean;
}

/** How much may be pinned. A limit that is left out is none. */
export interface PinLimits {
  /** Bytes of long-term pins by all threads; a page counts once for each pin. */
  readonly longtermBytes?: number;
  /** RLIMIT_MEMLOCK, bytes, for the long-term pins of passed-through devices; Infinity with CAP_IPC_LOCK. */
  readonly memlockBytes?: number;
  /** Bytes in flight in short pins of one thread; left out: as much as there is memory. */
  readonly shortBytes?: number;
  /** Pins of one page, or of one aligned block of pages as a whole, by each of reading and writing, short and long. */
  readonly pinsPerPage?: number;
}

/** What a limit said, in bytes or pins. */
export interface PinQuota {
  readonly name: 'long-term' | 'RLIMIT_MEMLOCK' | 'in flight' | 'pins';
  readonly needed: number;
  readonly used: number;
  readonly limit: number;
}

/** Memory that cannot be pinned for long: file-backed RAM that is written back, for one (PIN-7). */
export interface ShortPinsOnly {
  readonly base: Gpa;
  /** Bytes. */
  readonly length: number;
  /** Ends the message 'cannot be pinned long-term: '. */
  readonly why: string;
}

/** Sums over all threads, in base pages unless it says otherwise (PIN-5). */
export interface PinStats {
  readonly pinAcquired: number;
  readonly pinReleased: number;
  /** Now pinned, a page once for each pin. */
  readonly current: number;
  readonly currentLong: number;
  /** Discarded, by balloon or report or unplug. */
  readonly discarded: number;
  /** Ballooned while in a short pin, so that the discard had to wait. */
  readonly queued: number;
  /** Of these, how many were deflated before. */
  readonly cancelled: number;
  /** Left alone because of a pin. */
  readonly skippedPinned: number;
  /** Revocable pins (not pages) that were revoked. */
  readonly revoked: number;
}

/** Pages that somebody holds. */
export interface PinLeak {
  /** The owner; for pins of another thread, that thread. */
  readonly owner: string;
  readonly pages: number;
}

/** Exact pins of one page (PIN-3). */
export interface PageUse {
  readonly short: number;
  readonly long: number;
  /** Of both, those for writing. */
  readonly write: number;
}

/** What the memory of a page is doing. */
export type PageState =
  | 'present'
  /** In the balloon; its memory has been given back, and an access finds zeros. */
  | 'discarded'
  /** In the balloon; its memory is given back at the last unpin. */
  | 'queued'
  /** A thread is giving it back at this moment. */
  | 'discarding'
  /** Not there: no pin gets it (PIN-8). */
  | 'unplugged'
  | 'unplugging';

/** What became of the pages of a discard. They add up to the whole pages of RAM in the range that are plugged. */
export interface DiscardResult {
  readonly discarded: number;
  readonly queued: number;
  /** Pinned pages left as they are. */
  readonly skippedPinned: number;
}

/** Told of memory that comes and goes: vCPUs' mappings, IOMMUs. */
export interface PlugListener {
  /**
   * [base, base + length) is there, and the guest does not know yet. The listener may pin it.
   * A throw is a veto: whoever was told before is told of an unplug (table 4.3, hot-plug).
   */
  plug(base: Gpa, length: number): void;
  /** The range is about to go: nothing of it is pinned, but for coordinated pins, which the listener releases now. No veto. */
  unplug(base: Gpa, length: number): void;
}

/** Who hears of pages that became dirty. */
export interface DirtySink {
  /** The pages of [base, base + length) have been written; parts outside of guest memory are ignored. */
  markDirty(base: Gpa, length: number): void;
}

/** Somebody who writes guest memory without pins: vCPUs. Called on the thread that collects. */
export interface DirtySource {
  /** Begins to track: from its return on, no write is missed. Called before the first log starts. */
  start(): void;
  stop(): void;
  /** Reports the pages written since start() or the last call, once, and forgets them. */
  collectCpu(sink: DirtySink): void;
}

/** How long to wait for pins to be released. */
export interface DrainOptions {
  /** New pins are kept away even if nobody has any: what is to be done meanwhile takes time. */
  readonly exclusive?: boolean;
  /** Host's time, ms. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}
