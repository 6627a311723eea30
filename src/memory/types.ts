/** A guest-physical address in bytes; below 2^52, so exact in a double and faster than a bigint. */
export type Gpa = number;

/** One range of guest-physical memory backed by host bytes. */
export interface Region {
  readonly base: Gpa;
  /** Bytes. */
  readonly size: number;
  readonly kind: 'ram' | 'rom';
  /** The backing bytes, `size` long; for RAM a view of the engine's shared memory. */
  readonly bytes: Uint8Array;
}

/**
 * Guest-physical memory as devices and loaders see it. All multi-byte accesses are little-endian.
 * Every method throws `VmError` ERR_GUEST_ADDRESS when the range is not wholly inside regions; callers that act
 * for the guest test with `contains` first and give the guest the architected answer.
 */
export interface GuestMemory {
  readonly regions: readonly Region[];
  /** True when [a, a+length) lies in regions, possibly crossing from one to an adjacent one. */
  contains(a: Gpa, length: number): boolean;
  u8(a: Gpa): number;
  u16(a: Gpa): number;
  u32(a: Gpa): number;
  u64(a: Gpa): bigint;
  setU8(a: Gpa, v: number): void;
  setU16(a: Gpa, v: number): void;
  setU32(a: Gpa, v: number): void;
  setU64(a: Gpa, v: bigint): void;
  /** A zero-copy view, or undefined when the range crosses regions or lies outside. */
  view(a: Gpa, length: number): Uint8Array | undefined;
  read(a: Gpa, into: Uint8Array): void;
  write(a: Gpa, from: Uint8Array): void;
}

/** Memory of a device, which a guest may reach as it reaches RAM, wherever the device's BAR is. */
export interface DeviceMemory {
  /** The bytes; a view of the engine's shared memory. */
  readonly bytes: Uint8Array;
}

/** What an engine offers for {@link DeviceMemory}: the counterpart of KVM's memory slots. */
export interface MemorySlots {
  /** Alignment that base, offset and size of a mapping need, bytes. */
  readonly pageSize: number;
  /**
   * Zeroed device memory of `size` bytes, a multiple of {@link pageSize}.
   * @throws VmError ERR_MEMORY_TOO_LARGE when the engine cannot have more.
   */
  allocate(size: number): DeviceMemory;
  /**
   * Lets guests reach [offset, offset + size) of `memory` at `base` without an exit; disposing the result ends it.
   * undefined: the engine has no slot left, and accesses must be answered by a device.
   */
  map(base: Gpa, size: number, memory: DeviceMemory, offset: number, readOnly: boolean): Disposable | undefined;
}
