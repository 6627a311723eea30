/** Width of a bus access in bytes. */
export type AccessSize = 1 | 2 | 4;

/**
 * A device on an address bus. It knows offsets from its own base, never addresses. Values are unsigned, little-endian.
 * A guest's mistake (bad offset, bad width) gets the architected answer, never an exception.
 */
export interface BusDevice {
  readonly name: string;
  /** Returns a value of `size` bytes as an unsigned number. */
  read(offset: number, size: AccessSize): number;
  write(offset: number, size: AccessSize, value: number): void;
  /** 64-bit accesses; without these two the bus splits them into two 32-bit ones, low half first. */
  read64?(offset: number): bigint;
  write64?(offset: number, value: bigint): void;
  /** Of a window to another bus: that bus, whose addresses are the window's offsets. */
  readonly inside?: AddressBus | undefined;
}

/** A device's place on a bus; disposing it takes the device off. */
export interface Mapping extends Disposable {
  readonly base: number;
  /** Bytes. */
  readonly size: number;
  readonly device: BusDevice;
}

/** An address space of devices: MMIO (guest-physical addresses) or x86 ports. */
export interface AddressBus {
  /** @throws VmError ERR_OVERLAP naming both devices when the range is taken. */
  map(base: number, size: number, device: BusDevice): Mapping;
  at(address: number): Mapping | undefined;
  /** Reads of addresses without a device give all ones; `size` is 1, 2, 4 (number) or 8 (bigint). */
  read(address: number, size: AccessSize): number;
  read64(address: number): bigint;
  write(address: number, size: AccessSize, value: number): void;
  write64(address: number, value: bigint): void;
}
