import type { PinHandle, PinOwner } from '../../memory/pin-types.ts';
import type { DmaRefusal } from '../../pci/dma.ts';

/**
 * A virtio transport's way into guest RAM, refused while the function may not master the bus: borrows for the length of a call,
 * pins for what a queue and its requests use longer. `DmaGate` of the PCI function is one.
 */
export interface GuestRam {
  /**
   * Whether the device may use guest memory now. While it may not, all is refused: that is a reason to wait, whereas a refusal
   * of an allowed device is the driver's mistake, or a quota's (see {@link refused}).
   */
  readonly allowed: boolean;
  /** Why the latest borrow or pin was refused. */
  readonly refused: DmaRefusal | undefined;
  /** `length` bytes at guest-physical `address` for use within the call; undefined: refused, no RAM, or ROM for 'w'. */
  borrow(address: number, length: number, access: 'r' | 'w'): Uint8Array | undefined;
  /** Pins `length` bytes at `address`; 0: refused. Allocates nothing. */
  pin(address: number, length: number, access: 'r' | 'w', owner: PinOwner, longterm?: boolean): PinHandle;
  /** The bytes of a pin, valid until unpin(); undefined when they lie in two regions of memory. */
  pinned(handle: PinHandle): Uint8Array | undefined;
  /** Releases a pin, also while the device may not use memory. */
  unpin(handle: PinHandle): void;
  /**
   * Calls `again`, once and not from inside of this, when what was refused may be had: for a quota, or because the memory is
   * being copied or moved. False: it never can be, it is too much by itself.
   */
  wait(again: () => void): boolean;
  /** A request is over and its pins are released: whoever waits may try again. */
  released(): void;
}
