import type { AccessSize } from '../../bus/types.ts';

/**
 * Answers accesses to a BAR. Offsets are bytes from the BAR's start, wherever the guest has put it; values are unsigned and
 * little-endian. A guest may use any offset and width: what a handler does not know it answers with undefined.
 */
export interface BarHandlers {
  /** A read of `size` bytes; undefined, or no handler: all ones. */
  read?(offset: number, size: AccessSize): number | undefined;
  /** A write of `size` bytes. Without a handler it is dropped. */
  write?(offset: number, value: number, size: AccessSize): void;
  /** Accesses of 8 bytes; without these they arrive as two of 4, the low half first. */
  read64?(offset: number): bigint | undefined;
  write64?(offset: number, value: bigint): void;
}

/** One of a device's BARs. */
export interface DeviceBar {
  /**
   * Sets the handlers of a BAR of registers; a later call replaces them.
   * @throws VmError ERR_DEVICE for a BAR of memory, and for an asynchronous handler where those cannot be.
   */
  on(handlers: BarHandlers): void;
  /** The bytes of a BAR with `memory: true`, shared with the guest. @throws VmError ERR_DEVICE for other BARs. */
  readonly memory: Uint8Array;
}

/** A message-signalled interrupt. */
export interface DeviceVector {
  /**
   * Raises it: by MSI-X, or else by MSI, whichever the guest has enabled; by neither, nothing happens. What is masked stays
   * pending.
   */
  trigger(): void;
}

/** Guest memory that stays where it is until the device releases it. */
export interface DmaPin {
  /** The guest's bytes themselves, until unpin(). The guest may change them at any moment. */
  readonly bytes: Uint8Array;
  /** Releases them. Again, or after a reset that has released them, it does nothing. */
  unpin(): void;
}

/**
 * The guest's memory as a bus master reaches it. Addresses come from the guest, so none of this throws: what is refused,
 * because the guest has not enabled bus mastering or there is no RAM, gives undefined or false.
 */
export interface DeviceDma {
  /** Whether the guest lets the device reach its memory now. While it does not, the bytes of pins are to be left alone, too. */
  readonly allowed: boolean;
  /** A copy of `length` bytes at a guest-physical address. */
  read(address: number | bigint, length: number): Uint8Array | undefined;
  /** Copies `bytes` to a guest-physical address. Nothing is written when not all of it is RAM. */
  write(address: number | bigint, bytes: Uint8Array): boolean;
  /**
   * The guest's bytes themselves; `access` is 'r' to read only, 'w' otherwise. The guest may change them at any moment, and
   * they must not be used after the handler has returned: by then they may be another's. {@link pin} is for that.
   */
  view(address: number | bigint, length: number, access: 'r' | 'w'): Uint8Array | undefined;
  /**
   * The guest's bytes for work that goes on after the handler: until unpin(), no balloon takes them, and a snapshot or fork
   * waits for them. With `longterm` the guest decides how long that is, not a request: nobody waits then. Refused also when too
   * much is pinned. What is left at a reset, an unplug or the device's end, and their asynchronous handlers', is released then.
   */
  pin(
    address: number | bigint,
    length: number,
    access: 'r' | 'w',
    options?: { readonly longterm?: boolean },
  ): DmaPin | undefined;
}

/** What a device's program has in its hands: the `dev` of {@link definePciDevice}. */
export interface PciDevice {
  /** Its name among the devices of its machine, such as counter0. */
  readonly name: string;
  /** What the user has said about this device, as text or as an object; empty without. */
  readonly options: Readonly<Record<string, unknown>>;
  /** @throws VmError ERR_DEVICE when the spec has no such BAR. */
  bar(index: number): DeviceBar;
  /** @throws VmError ERR_DEVICE when the spec has no such vector. */
  msi(vector: number): DeviceVector;
  /** The INTA wire. It does not reach the guest while that has enabled MSI or MSI-X. */
  readonly intx: { set(level: boolean): void };
  readonly dma: DeviceDma;
  /** The configuration space as the guest has set it up; offsets up to 4095. */
  readonly config: { read(offset: number, size: AccessSize): number };
  /** A line for the host's user. */
  log(line: string): void;
  /**
   * Calls `f` once, `ns` nanoseconds from now on the machine's clock; disposing the result cancels it. A reset leaves timers
   * alone, an unplug cancels them.
   */
  after(ns: number, f: () => void): Disposable;
  /** `f` is called when the guest or its user resets the device: put registers back, forget what was under way. */
  onReset(f: () => void): void;
  /** `f` is called when the device has left the bus. */
  onUnplug(f: () => void): void;
}
