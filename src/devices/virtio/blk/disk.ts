/**
 * What a block device needs of a disk. Data is scattered over views of guest RAM, which a disk may use until the
 * request is done and not longer. Callers keep requests inside {@link Disk.size} and aligned to 512 bytes.
 */

/** Undefined: done already. A promise: done when it resolves; it rejects when the host could not do it. */
export type Completion = Promise<void> | undefined;

/**
 * A disk. A request that the host cannot do (no space left, a bad sector) throws or rejects, changes at most the
 * sectors that it names, and leaves the disk usable. Requests that overlap in time are done in any order.
 */
export interface Disk {
  /** Bytes, a multiple of 512; constant. */
  readonly size: number;
  /** Writes, discards and zeroes are refused by the device already. */
  readonly readOnly: boolean;
  /** Bytes, a power of two from 512: the pieces in which the disk allocates and discards. */
  readonly granularity: number;
  /** Requests begun and not done, flushes included. */
  readonly inFlight: number;
  /** Fills `into` from byte `offset` of the disk on. */
  read(offset: number, into: readonly Uint8Array[]): Completion;
  /** Writes all of `from` at byte `offset`. It survives a crash of the host after the next flush(). */
  write(offset: number, from: readonly Uint8Array[]): Completion;
  /** Makes durable all writes, discards and zeroes that were done before the call. */
  flush(): Completion;
  /** The guest does not need these bytes any more: they may keep their value or read as zeroes. */
  discard(offset: number, length: number): Completion;
  /** The bytes read as zeroes from now on; `unmap` allows to give up their space. */
  writeZeroes(offset: number, length: number, unmap: boolean): Completion;
  /** Finishes what is in flight, flushes and lets go of the host's files. No requests after it. */
  close(): Promise<void>;
}

/** Sum of the lengths in bytes. */
export function lengthOf(parts: readonly Uint8Array[]): number {
  let length = 0;
  for (const part of parts) length += part.length;
  return length;
}

/**
 * Views of `length` bytes from byte `offset` on, as if `parts` were one array; fewer when they end before. No copies.
 */
export function sliceParts(parts: readonly Uint8Array[], offset: number, length: number): Uint8Array[] {
  const slices: Uint8Array[] = [];
  let skip = offset;
  let left = length;
  for (const part of parts) {
    if (left === 0) break;
    if (skip >= part.length) {
      skip -= part.length;
      continue;
    }
    const slice = part.subarray(skip, skip + left);
    slices.push(slice);
    skip = 0;
    left -= slice.length;
  }
  return slices;
}
