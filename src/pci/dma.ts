import type { PinTable } from '../memory/pin-table.ts';
import {
  FOLL_LONGTERM,
  FOLL_PIN,
  FOLL_WRITE,
  type PinErrno,
  type PinHandle,
  type PinOwner,
} from '../memory/pin-types.ts';
import type { Gpa } from '../memory/types.ts';
import type { PinWaiters } from './pin-waiters.ts';

/** The guest's memory as the functions of one host reach it. */
export interface DmaMemory {
  readonly pins: PinTable;
  readonly waiters: PinWaiters;
}

/** Why DMA was refused: the function may not master the bus, or what the table of pins says (table 4.3). */
export type DmaRefusal = 'MASTER' | PinErrno;

/** Whether DMA that was refused is one that no memory answers: a master abort (PCI Local Bus 3.0 section 6.2.3). */
export function isMasterAbort(why: DmaRefusal | undefined): boolean {
  return why === 'EFAULT' || why === 'EPERM' || why === 'EINVAL';
}

/** What decides whether a function may master the bus. */
export interface MasterState {
  /** COMMAND.MASTER here and in every bridge above, in D0 (CMD-2, PM-1). */
  readonly mayMaster: boolean;
}

/**
 * A PCI function's way into guest RAM, and the only one: a borrow for the length of a call, a pin for longer. Guests choose the
 * addresses, so nothing here throws for them; {@link refused} says why there was no answer. This file and those that borrow are
 * held to synchronous code by scripts/check-borrows.ts.
 */
export class DmaGate {
  readonly #state: MasterState;
  /** Of the host that the function is on, or was last: what is pinned is released there after an unplug, too. */
  #target: DmaMemory | undefined;
  #refused: DmaRefusal | undefined;

  constructor(state: MasterState) {
    this.#state = state;
  }

  /** The function has come to a host. */
  connect(target: DmaMemory): void {
    this.#target = target;
  }

  /** Whether the function may use guest memory now. Its pins stay while it may not; their bytes are to be left alone. */
  get allowed(): boolean {
    return this.#state.mayMaster;
  }

  /** Why the latest borrow or pin was refused. */
  get refused(): DmaRefusal | undefined {
    return this.#refused;
  }

  /**
   * `length` bytes of guest memory at `a` for use within the call, without a copy (kernel FOLL_GET). undefined when the function
   * may not master the bus, when the range is not wholly in one region of memory, or for a write into ROM. Borrowed for 'w' they
   * are dirty.
   */
  borrow(a: Gpa, length: number, access: 'r' | 'w'): Uint8Array | undefined {
    if (this.#target === undefined || !this.#state.mayMaster) {
      this.#refused = 'MASTER';
      return undefined;
    }
    const { pins } = this.#target;
    const bytes = pins.borrow(a, length, access);
    // Nothing else can be wrong: flags are right, and borrows are not charged.
    if (bytes === undefined) this.#refused = pins.lastErrno === 'EPERM' ? 'EPERM' : 'EFAULT';
    return bytes;
  }

  /**
   * The holder of that name, for {@link pin}. Only for a function that has been on a host: no guest can reach another.
   * @param name as reports show it, e.g. 'disk0 queue 1'.
   */
  owner(name: string): PinOwner {
    return this.#target!.pins.owner(name);
  }

  /**
   * Pins `length` bytes at `a`. Allocates nothing.
   * @param longterm until the guest or the device decides otherwise, not for a request (FOLL_LONGTERM).
   * @returns 0: refused as {@link borrow} would, or for a quota. Nothing is pinned then.
   */
  pin(a: Gpa, length: number, access: 'r' | 'w', owner: PinOwner, longterm = false): PinHandle {
    if (this.#target === undefined || !this.#state.mayMaster) {
      this.#refused = 'MASTER';
      return 0;
    }
    const { pins } = this.#target;
    const flags = FOLL_PIN | (access === 'w' ? FOLL_WRITE : 0) | (longterm ? FOLL_LONGTERM : 0);
    const handle = pins.tryPin(a, length, flags, owner);
    // What is no range of addresses is no memory either.
    if (handle === 0) this.#refused = pins.lastErrno === 'EINVAL' ? 'EFAULT' : pins.lastErrno;
    return handle;
  }

  /** The bytes of a pin, until its unpin(); undefined when they are in two regions of memory. */
  pinned(handle: PinHandle): Uint8Array | undefined {
    return this.#target?.pins.view(handle);
  }

  /**
   * Releases a pin, once, whether the function may master the bus or not.
   * @throws VmError ERR_PIN_INVALID for a handle that is no pin's (PIN-4).
   */
  unpin(handle: PinHandle): void {
    this.#target!.pins.unpin(handle);
  }

  /**
   * Calls `again` when there may be room for what was refused last for a quota, or because the memory is being copied or moved.
   * @returns false: nobody holds anything, so what was refused does not fit at all.
   */
  wait(again: () => void): boolean {
    if (this.#target === undefined) return false;
    const { pins, waiters } = this.#target;
    const { current, currentLong } = pins.stats();
    if (this.#refused === 'ENOMEM' && current === currentLong) return false;
    waiters.wait(again);
    return true;
  }

  /** Pins have been released for good; see {@link PinWaiters.released}. */
  released(): void {
    this.#target?.waiters.released();
  }
}
